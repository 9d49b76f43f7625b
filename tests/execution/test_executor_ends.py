"""However the parent of workers ends, nothing is left behind and what was finished is recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from curricle.cli.run import signals_interrupt
from curricle.config.execution import ExecutorParameters
from curricle.errors import ExecutionFailed, Interrupted
from curricle.execution import executor_contract
from curricle.execution.executor_contract import numbers
from curricle.execution.journal import Journal
from curricle.execution.local_executor import LocalExecutor
from tests.execution.programs import WORKS, eventually, processes, start_program

CONTRACT = executor_contract.__name__


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the program; its temporary files are in `tmp_path / "tmp"`."""
    started = []
    (tmp_path / "tmp").mkdir()

    def begin(work: str, count: int, marker: str) -> subprocess.Popen[str]:
        program = start_program(tmp_path, work, count, marker, TMPDIR=str(tmp_path / "tmp"))
        started.append(program)
        return program

    yield begin
    for program in started:
        program.kill()
        program.communicate()


def recorded(tmp_path: Path) -> set[str]:
    return set(Journal(tmp_path / "journal"))


def test_killing_the_parent_leaves_no_process_no_mount_and_no_file(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    marker = str(os.getpid())
    mounts = Path("/proc/mounts").read_text()
    program = start("run_for_long", 6, marker)
    # Two of each: a plain process, a daemon in a sandbox, and bubblewrap's own.
    assert eventually(lambda: sum(f"600.{marker}" in line for line in processes(marker)) == 2)
    assert eventually(lambda: sum("601." in line for line in processes(f".{marker}")) >= 2)
    assert processes(str(tmp_path / "tmp")), "the reaper is there"
    program.kill()
    program.wait()
    gone = eventually(lambda: not processes(f".{marker}") and not processes(str(tmp_path / "tmp")))
    assert gone, processes(marker)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert Path("/proc/mounts").read_text() == mounts
    assert recorded(tmp_path) == {"0", "1", "2", "3"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_everything_finished_recorded(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    program = start("quick", 500, "none")
    assert program.stdout is not None
    seen = [program.stdout.readline().strip() for _ in range(10)]
    program.send_signal(number)
    rest, _ = program.communicate(timeout=20)
    seen += rest.split()
    assert program.returncode == -number
    assert set(seen) <= recorded(tmp_path) and len(seen) < 500
    # Of each of two workers: one that was recorded and not yet yielded, and one that was finished
    # when the rest was abandoned.
    assert len(recorded(tmp_path)) - len(seen) <= 4
    assert eventually(lambda: not processes(str(tmp_path / "tmp")))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_run_that_was_killed_at_any_time_continues_where_it_was(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    runs = 0
    for lines in (1, 7, 20):
        program = start("quick", 60, "none")
        assert program.stdout is not None
        for _ in range(lines + len(recorded(tmp_path))):
            program.stdout.readline()
        program.kill()
        program.wait()
        runs += 1
    before = len(recorded(tmp_path))
    program = start("quick", 60, "none")
    out, _ = program.communicate(timeout=30)
    assert 28 <= before < 60
    assert sorted(map(int, out.split())) == list(range(60))
    journal = Journal(tmp_path / "journal")
    assert len(journal) == 60 and journal.duplicates == 0


def test_who_handles_signals_outside_does_so_after_everything_is_recorded(tmp_path: Path) -> None:
    seen: list[str] = []
    parameters = ExecutorParameters(workers=2)
    with LocalExecutor(parameters) as executor, Journal(tmp_path / "journal") as journal:
        with pytest.raises(Interrupted) as raised, signals_interrupt():
            items = numbers(10_000, sleep_s=0.01)
            for key, _ in executor.map(f"{CONTRACT}:square", items, journal):
                seen.append(key)
                if len(seen) == 10:
                    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert raised.value.signal_name == "SIGTERM"
        assert 10 <= len(seen) < 10_000 and set(seen) <= set(journal)
        assert len(list(executor.map(f"{CONTRACT}:square", numbers(3), journal))) == 3


def test_a_map_runs_in_another_thread_too(tmp_path: Path) -> None:
    found: list[str] = []

    def run() -> None:
        parameters = ExecutorParameters(workers=2)
        with LocalExecutor(parameters) as executor, Journal(tmp_path / "journal") as journal:
            found.extend(key for key, _ in executor.map(f"{CONTRACT}:square", numbers(9), journal))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(found) == 9


def test_one_executor_runs_one_map_at_a_time(tmp_path: Path) -> None:
    parameters = ExecutorParameters(workers=1)
    with LocalExecutor(parameters) as executor, Journal(tmp_path / "journal") as journal:
        first = executor.map(f"{CONTRACT}:square", numbers(3), journal)
        next(first)
        with pytest.raises(ValueError, match="at work"):
            next(executor.map(f"{CONTRACT}:square", numbers(3), journal))
        assert len(list(first)) == 2


def test_nothing_is_left_after_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with LocalExecutor(ExecutorParameters(workers=2)) as executor:
        with Journal(tmp_path / "journal") as journal:
            list(executor.map(f"{CONTRACT}:square", numbers(9), journal))
        assert processes(str(tmp_path))
    assert not processes(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


def test_a_worker_that_dies_is_quoted(tmp_path: Path) -> None:
    parameters = ExecutorParameters(workers=1, retries=0)
    with LocalExecutor(parameters) as executor, Journal(tmp_path / "journal") as journal:
        items = [{"said": "out of everything"}]
        ((_, outcome),) = executor.map(f"{WORKS}:last_words", items, journal)
    assert "status 3" in outcome.note and "out of everything" in outcome.note


def test_a_work_function_that_is_not_there_is_named(tmp_path: Path) -> None:
    parameters = ExecutorParameters(workers=1)
    with LocalExecutor(parameters) as executor, Journal(tmp_path / "journal") as journal:
        with pytest.raises(ExecutionFailed, match=r"'math:squared' names no function"):
            list(executor.map("math:squared", [{}], journal))
