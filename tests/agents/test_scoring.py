from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from curricle.agents.failures import Failure, changed_lines, failure_of
from curricle.agents.records import Call, Ending, SessionRecord
from curricle.agents.scoring import (
    Attempt,
    Baselines,
    Verdict,
    against,
    attempt_of,
    fixed_rate,
    has_no_new_findings,
    pass_rates,
    score,
)
from curricle.languages.commands import Level
from curricle.languages.evaluation import Evaluation, Finding
from curricle.languages.tasks import BugTask, Patch
from tests.agents.conftest import BACKEND, FILE, Bench

TEST, CHECK = Level.TEST, Level.CHECK


def recorded(*outcomes: tuple[str, str], patch: Patch | None = None) -> SessionRecord:
    calls = tuple(Call(n, tool, {}, outcome, 0.0) for n, (tool, outcome) in enumerate(outcomes))
    return SessionRecord(Ending.CONCLUDED, len(calls) + 1, calls, patch or Patch())


class TestWhyABugIsNotFixed:
    @pytest.mark.parametrize(
        ("outcomes", "failure"),
        [
            ([("run_tests", "failed")], Failure.NO_EDIT),
            ([("", "malformed_call")], Failure.INVALID_CALL),
            ([("edit", "bad_arguments")], Failure.INVALID_CALL),
            ([("edit", "absent"), ("", "malformed_call")], Failure.MISCOPIED),
            ([("edit", "ok"), ("edit", "ok")], Failure.UNDONE),
        ],
    )
    def test_nothing_was_changed(
        self,
        bench: Bench,
        boundary: BugTask,
        outcomes: Sequence[tuple[str, str]],
        failure: Failure,
    ) -> None:
        assert failure_of(boundary, bench.prepared.project, recorded(*outcomes)) is failure

    @pytest.mark.parametrize(
        ("old", "new", "failure"),
        [
            ("start < merged", "start > merged", Failure.WRONG_FIX),
            ("low = middle + 1", "low = middle", Failure.WRONG_LINE),
        ],
    )
    def test_the_right_line_or_another_was_changed(
        self, bench: Bench, boundary: BugTask, old: str, new: str, failure: Failure
    ) -> None:
        broken = str(boundary.broken(bench.prepared.project)[FILE])
        record = recorded(("edit", "ok"), patch=Patch({FILE: broken.replace(old, new)}))
        assert failure_of(boundary, bench.prepared.project, record) is failure

    def test_beside_a_missing_line_is_the_right_place(self, bench: Bench) -> None:
        task = bench.task("        position = max(position, end)\n", "", "statement_deleted")
        broken = str(task.broken(bench.prepared.project)[FILE])
        place = "        if position >= last:\n            return free\n"
        record = recorded(
            ("edit", "ok"), patch=Patch({FILE: broken.replace(place, "        pass\n" + place)})
        )
        assert failure_of(task, bench.prepared.project, record) is Failure.WRONG_FIX

    def test_another_file_is_another_line(self, bench: Bench, boundary: BugTask) -> None:
        record = recorded(("edit", "ok"), patch=Patch({"other.py": "x"}))
        assert failure_of(boundary, bench.prepared.project, record) is Failure.WRONG_LINE

    def test_changed_lines_are_counted_from_one(self) -> None:
        assert changed_lines("a\nb\nc", "a\nx\nc") == range(2, 3)
        assert list(changed_lines("a\nb\nc", "a\nb\nc")) == []
        assert changed_lines("a\nc", "a\nb\nc") == range(2, 2)


class TestFindings:
    BEFORE = Evaluation(True, findings=(Finding("a.py", 3, "E1", "old"),))

    @pytest.mark.parametrize(
        ("after", "clean"),
        [
            (Evaluation(True, findings=(Finding("a.py", 9, "E1", "old"),)), True),
            (Evaluation(True, findings=()), True),
            (Evaluation(True, findings=(*BEFORE.findings, Finding("a.py", 4, "E2", "n"))), False),
            (Evaluation(True, findings=BEFORE.findings * 2), False),
            (Evaluation(False, findings=()), False),
            (Evaluation(True, findings=None), None),
        ],
    )
    def test_only_new_ones_count(self, after: Evaluation, clean: bool | None) -> None:
        assert has_no_new_findings(self.BEFORE, after) is clean


def attempt(
    task: str, fixed: bool | None, sample: int = 0, operator: str = "flip", **fields: Any
) -> Attempt:
    failure = None if fixed else Failure.WRONG_LINE
    content = {
        "task": task,
        "project": "p",
        "operator": operator,
        "sample": sample,
        "fixed": fixed,
        "clean": {"check": fixed},
        "failure": failure if fixed is not None else Failure.INFRASTRUCTURE,
        "turns": 4,
        "calls": 4,
        "valid_calls": 3,
        "prompt_tokens": 100,
        "tokens": 20,
        "ending": "concluded",
        "outcomes": {"ok": 3, "unknown_tool": 1},
        "messages": [{"role": "user", "content": "Fix it."}],
    }
    return Attempt.from_json({**content, **fields})


def baselines(tasks: Sequence[str], rule_fixes: Sequence[str]) -> Baselines:
    def verdicts(fixed: Sequence[str], clean: bool = True) -> dict[str, Verdict]:
        return {task: Verdict(task in fixed, {CHECK: clean}) for task in tasks}

    return Baselines(verdicts(()), verdicts(tasks), verdicts(rule_fixes), "drop_not")


class TestRates:
    def test_single_attempts_have_wilsons_interval(self) -> None:
        rate = fixed_rate([attempt(str(n), n < 22) for n in range(80)])
        assert (rate.count, rate.of) == (22, 80)
        assert (rate.low, rate.high) == pytest.approx((0.189, 0.381), abs=1e-3)

    def test_several_attempts_are_averaged_by_task(self) -> None:
        attempts = [attempt("a", n < 2, n) for n in range(8)]
        attempts += [attempt("b", False, n) for n in range(8)]
        assert fixed_rate(attempts).value == pytest.approx(0.125)
        assert pass_rates(attempts) == {"1": 0.125, "8": 0.5}

    def test_what_the_machine_spoiled_is_masked(self) -> None:
        attempts = [attempt("a", True), attempt("b", None), attempt("c", False)]
        assert (fixed_rate(attempts).count, fixed_rate(attempts).of) == (1, 2)
        assert pass_rates(attempts, (1, 8)) == {"1": 0.5}

    def test_two_models_are_compared_in_pairs(self) -> None:
        first = [attempt(str(n), n < 13 or 13 <= n < 22) for n in range(80)]
        second = [attempt(str(n), n < 13 or 22 <= n < 24) for n in range(80)]
        found = against(first, second)
        assert (found.both, found.only_first, found.only_second) == (13, 9, 2)
        assert found.p == pytest.approx(0.0654, abs=1e-4)


class TestTheReport:
    def report(self) -> dict[str, Any]:
        tasks = ["a", "b", "c", "d"]
        attempts = [
            attempt("a", True),
            attempt("b", True, operator="swap"),
            attempt("c", False),
            attempt("d", None, fault="no space left"),
        ]
        return score(
            attempts,
            baselines(tasks, rule_fixes=["a"]),
            {TEST: "pytest_pass_rate", CHECK: "mypy_clean_rate", Level.LINT: "ruff_clean_rate"},
            targets={"pytest_pass_rate": 0.35},
            parent=[attempt(task, False) for task in tasks],
            start=[attempt(task, False, valid_calls=1) for task in tasks],
        )

    def test_every_rate_stands_beside_what_needs_no_model(self) -> None:
        metric = self.report()["metrics"]["pytest_pass_rate"]
        assert metric["rate"]["value"] == pytest.approx(2 / 3, abs=1e-4)
        assert (metric["no_op"], metric["oracle"]) == (0.0, 1.0)
        assert metric["best_rule"] == pytest.approx(1 / 3, abs=1e-4), "over the same tasks"
        assert (metric["target"], metric["reached"]) == (0.35, True)

    def test_what_was_not_measured_is_no_rate(self) -> None:
        metric = self.report()["metrics"]["ruff_clean_rate"]
        assert metric["rate"] is None and metric["oracle"] is None and metric["reached"] is None

    def test_it_counts_and_groups(self) -> None:
        report = self.report()
        assert (report["tasks"], report["attempts"], report["masked"]) == (4, 4, 1)
        assert report["failures"] == {"infrastructure": 1, "wrong_line": 1}
        assert report["faults"] == {"no space left": 1}
        assert report["by_operator"]["swap"]["rate"]["value"] == 1.0
        assert report["by_operator"]["flip"]["failures"] == {"wrong_line": 1}
        assert report["valid_call_rate"]["value"] == 0.75
        assert report["against_best_rule"]["only_second"] == 1
        assert report["against_parent"]["gain"] == pytest.approx(0.6667, abs=1e-3)
        assert report["against_start"]["gain"] == report["against_parent"]["gain"]
        assert report["start"]["fixed_rate"]["value"] == 0.0
        assert report["start"]["valid_call_rate"]["value"] == 0.25
        assert report["baselines"]["best_rule_name"] == "drop_not"
        json.dumps(report)

    def test_of_no_attempts_there_is_a_report_too(self) -> None:
        report = score([], baselines([], []), {TEST: "pytest_pass_rate"})
        assert report["tasks"] == 0 and report["metrics"]["pytest_pass_rate"]["rate"] is None


def test_an_attempt_is_summed_up_and_kept_with_its_transcript(
    bench: Bench, boundary: BugTask
) -> None:
    record = recorded(("run_tests", "failed"), ("fly", "unknown_tool"), ("edit", "absent"))
    made = attempt_of(
        boundary, bench.prepared.project, record, Verdict(False, {CHECK: True}), tokens=7,
        messages=[{"role": "user", "content": "Fix it."}],
    )  # fmt: skip
    assert (made.calls, made.valid_calls, made.failure) == (3, 2, Failure.MISCOPIED)
    assert Attempt.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert BACKEND.metrics[TEST] == "pytest_pass_rate"
    masked = attempt_of(boundary, bench.prepared.project, record, Verdict(None, fault="no space"))
    assert masked.failure is Failure.INFRASTRUCTURE
    assert Attempt.from_json(json.loads(json.dumps(masked.to_json()))) == masked
