"""The command that runs many mutants of a project, and what it reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from curricle.languages import (
    Command,
    DataError,
    Evaluation,
    Limit,
    Output,
    Prepared,
    TestResult,
    TestStatus,
    Trial,
    TrialResult,
)
from curricle_python.running import ENVIRONMENT, FLAGS, import_folders, test_files
from curricle_python.toolchain import INSIDE, PYTHON, SITE

_TRIALS = "trials.jsonl"
_START_S = 60.0
"""Seconds for loading pytest and the project, and for running all tests once."""
_LONGEST_S = 400.0
"""Seconds of one command; trials that are left over then get another one."""


def trials_command(prepared: Prepared, trials: Sequence[Trial]) -> Command:
    """One process tree that runs every trial by two methods."""
    timeout_s = min(_START_S + sum(12 * trial.limit_s for trial in trials), _LONGEST_S)
    return _command(
        prepared, "run_mutants.py", (_TRIALS,), timeout_s,
        conftests=bool(prepared.project.files(("**/conftest.py",))),
        trials=[_trial_request(trial) for trial in trials],
    )  # fmt: skip


def read_trials(trials: Sequence[Trial], output: Output) -> Mapping[str, TrialResult]:
    """The results of the trials that were run; one that was not is absent.

    Raises:
        DataError: The project could not be loaded, so no trial was run at all.
    """
    firsts: dict[str, Evaluation] = {}
    seconds: dict[str, Evaluation] = {}
    wanted = {trial.id: trial.tests for trial in trials}
    for line in output.reports.get(_TRIALS, "").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break  # cut short
        if record["event"] == "ready" and "error" in record:
            raise DataError(f"its tests cannot be collected: {record['error']}")
        if record["event"] == "first":
            firsts[record["id"]] = _evaluation(record, wanted[record["id"]])
        elif record["event"] == "second":
            seconds[record["id"]] = _evaluation(record, record["asked"])
    return {name: TrialResult(first, seconds.get(name)) for name, first in firsts.items()}


def _command(
    prepared: Prepared,
    script: str,
    reports: tuple[str, ...],
    timeout_s: float | None = None,
    **more: Any,
) -> Command:
    request = {
        "site": [SITE],
        "path": import_folders(prepared.project),
        "files": test_files(prepared.project),
        **more,
    }
    return Command(
        argv=(PYTHON, *FLAGS, f"{INSIDE}/{script}"),
        env=ENVIRONMENT,
        stdin=json.dumps(request),
        reports=reports,
        timeout_s=timeout_s,
    )


def _trial_request(trial: Trial) -> dict[str, Any]:
    request: dict[str, Any] = {
        "id": trial.id, "tests": trial.tests, "limit_s": trial.limit_s, "edit": None, "file": "",
    }  # fmt: skip
    if trial.mutant is not None:
        change = trial.mutant.mutant
        request["file"] = trial.mutant.file
        request["edit"] = {
            "start": change.start_byte, "end": change.end_byte, "replacement": change.replacement,
        }  # fmt: skip
    return request


def _evaluation(record: Mapping[str, Any], asked: Sequence[str]) -> Evaluation:
    return replace(_result(record, asked), duration_s=float(record["seconds"]))


def _result(record: Mapping[str, Any], asked: Sequence[str]) -> Evaluation:
    if record.get("timeout"):
        return Evaluation(False, limits_hit=frozenset({Limit.WALL}), note="it took too long")
    if "broken" in record:
        return Evaluation(False, compiled=False, note=record["broken"])
    if "died" in record:
        return Evaluation(False, note=f"its process ended by itself: {record['died']}")
    if "records" in record:
        return _from_records(record["records"])
    problems = record["tests"]
    tests = {
        test: TestResult(TestStatus.FAILED if problem else TestStatus.PASSED, problem)
        for test, problem in problems.items()
    }
    missing = set(asked) - set(tests)
    note = f"{len(missing)} tests are missing" if missing else ""
    return Evaluation(complete=not missing, compiled=True, tests=tests, note=note)


def _from_records(records: Sequence[Mapping[str, Any]]) -> Evaluation:
    tests, finished, broken = {}, False, ""
    for record in records:
        if record["event"] == "finish":
            finished = True
        elif record.get("collection"):
            broken = record["message"]
        else:
            tests[record["id"]] = TestResult(
                TestStatus(record["status"]), record["message"], float(record["duration"])
            )
    return Evaluation(
        complete=finished and not broken, compiled=not broken, tests=tests, note=broken[-500:]
    )
