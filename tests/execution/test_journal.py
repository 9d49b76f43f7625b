"""A journal keeps every result once, through crashes, and says what it could not keep."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from curricle.errors import StoreError
from curricle.execution.journal import Journal, Outcome, Status

DONE = Outcome(Status.DONE, {"reward": 1.0}, attempts=1, duration_s=0.5)
MASKED = Outcome(Status.MASKED, {}, attempts=3, note="the sandbox did not start")


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def write(folder: Path, *outcomes: tuple[str, Outcome]) -> None:
    with Journal(folder) as journal:
        for key, outcome in outcomes:
            journal.append(key, outcome)


def test_what_was_recorded_is_read_by_the_next_run(tmp_path: Path) -> None:
    write(tmp_path, ("a", DONE), ("b", MASKED))
    journal = Journal(tmp_path)
    assert dict(journal.items()) == {"a": DONE, "b": MASKED}
    assert journal.get("a") == DONE and journal.get("c") is None
    assert "b" in journal and list(journal) == ["a", "b"] and len(journal) == 2


def test_a_record_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append("a", DONE)
        assert Journal(tmp_path).get("a") == DONE


def test_a_journal_that_is_only_read_makes_no_file(tmp_path: Path) -> None:
    write(tmp_path / "journal")
    assert not (tmp_path / "journal").exists()


def test_a_result_is_never_replaced(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        assert journal.append("a", DONE)
        assert not journal.append("a", Outcome(Status.DONE, {"reward": 0.0}))
        assert not journal.append("a", MASKED)
        assert journal.get("a") == DONE
    assert len(segments(tmp_path)[0].read_text().splitlines()) == 1


def test_a_masked_outcome_gives_way_to_a_result(tmp_path: Path) -> None:
    write(tmp_path, ("a", MASKED), ("b", DONE))
    write(tmp_path, ("a", DONE))
    journal = Journal(tmp_path)
    assert list(journal.items()) == [("b", DONE), ("a", DONE)]
    assert journal.duplicates == 0


def test_two_runs_at_the_same_time_count_a_key_once(tmp_path: Path) -> None:
    with Journal(tmp_path) as one, Journal(tmp_path) as other:
        assert one.append("a", DONE)
        assert other.append("a", Outcome(Status.DONE, {"reward": 0.0}))
        assert other.append("b", DONE)
    assert len(segments(tmp_path)) == 2
    journal = Journal(tmp_path)
    assert (len(journal), journal.duplicates) == (2, 1)
    assert [key for key, _ in journal.items()] in (["a", "b"], ["b", "a"])
    assert len(list(journal.items())) == 2


def test_a_line_cut_short_is_reported_and_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, ("a", DONE), ("b", DONE))
    (segment,) = segments(tmp_path)
    whole = segment.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[1])):
        segment.write_bytes(whole[:-cut])
        with caplog.at_level(logging.WARNING):
            journal = Journal(tmp_path)
        assert dict(journal.items()) == {"a": DONE} and journal.torn == (segment,)
    assert "cut short" in caplog.text and segment.name in caplog.text
    write(tmp_path, ("b", DONE))
    assert segment.read_bytes() == whole[:-cut], "nothing is appended behind a torn line"
    assert dict(Journal(tmp_path).items()) == {"a": DONE, "b": DONE}


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"status": "done"}', "\0\0\0"])
def test_any_other_damage_names_the_line(tmp_path: Path, line: str) -> None:
    write(tmp_path, ("a", DONE))
    (segment,) = segments(tmp_path)
    segment.write_text(f"{line}\n" + segment.read_text())
    with pytest.raises(StoreError, match=rf"{segment.name}:1 .*Delete that line"):
        Journal(tmp_path)


def test_a_full_disk_costs_the_record_that_did_not_fit(tmp_path: Path) -> None:
    program = f"""
import resource, signal
from pathlib import Path
from curricle.execution.journal import Journal, Outcome, Status
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
journal = Journal(Path({str(tmp_path)!r}))
for number in range(100):
    try:
        journal.append(str(number), Outcome(Status.DONE, {{}}))
    except OSError as error:
        print(number, error)
        assert str(number) not in journal
        assert journal.append(str(number), Outcome(Status.DONE, {{}})), "a segment of its own"
        break
"""
    done = subprocess.run(  # noqa: PLW1510 (checked below)
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    number, said = done.stdout.split(maxsplit=1)
    assert "Is it full?" in said
    journal = Journal(tmp_path)
    assert list(journal) == [str(n) for n in range(int(number) + 1)]
    assert len(journal.torn) == 1


def test_no_record_holds_what_json_has_no_form_for(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match="not JSON compliant"):
            journal.append("a", Outcome(Status.DONE, {"perplexity": float("inf")}))
        assert "a" not in journal


def test_a_line_is_plain_ascii_json(tmp_path: Path) -> None:
    write(tmp_path, ("a", Outcome(Status.DONE, {"stdout": "\ud800\n\u2028é"})))
    (line,) = segments(tmp_path)[0].read_bytes().decode("ascii").splitlines()
    assert list(json.loads(line)) == ["key", "status", "attempts", "duration_s", "note", "value"]
