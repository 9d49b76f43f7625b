"""The commands of each level, and how their machine-readable output is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from curricle.languages import (
    WARM_SERVER,
    WORK,
    Command,
    Evaluation,
    Finding,
    Level,
    Output,
    Prepared,
    Project,
    TestResult,
    TestStatus,
    Warm,
)
from curricle_python.toolchain import INSIDE, PYTHON, RUFF, SITE

REPORT_NAME = "pytest.jsonl"
FLAGS = ("-S", "-s", "-P")
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONPYCACHEPREFIX": "/cache/bytecode",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
WARM_TESTS = "pytest"
WARM_SESSION = "session"
WARM_COMPARE = "compare"
WARM = tuple(
    Warm(
        name,
        (PYTHON, *FLAGS, "-B", WARM_SERVER, f"{module}:main"),
        {**ENVIRONMENT, "PYTHONPATH": f"{INSIDE}:{SITE}"},
    )
    for name, module in (
        (WARM_TESTS, "warm_tests"),
        (WARM_SESSION, "warm_session"),
        (WARM_COMPARE, "warm_compare"),
    )
)
"""Two servers for the tests, and one without pytest for the comparison."""
_SYNTAX_ERRORS = ("SyntaxError", "IndentationError", "TabError")
_RAN = (0, 1)
"""pytest, mypy and ruff alike: 0 when all is well, 1 when something was found."""


def import_folders(project: Project) -> list[str]:
    """Where a run imports the project from, then the packages that its tests need."""
    root = str(project.options.get("import_root", "."))
    return [WORK if root == "." else f"{WORK}/{root}", "/cache/packages"]


def test_files(project: Project) -> list[str]:
    """The files in which pytest finds a project's tests."""
    return [file for file in project.files(project.tests) if _is_test_file(file)]


def test_command(project: Project, tests: Sequence[str] | None, *, trace: bool = False) -> Command:
    """One pytest process over the files of the wanted tests; traced, it says what they enter."""
    if tests is None:
        files = test_files(project)
    else:
        files = list(dict.fromkeys(test.split("::", 1)[0] for test in tests))
    request = {
        "site": [SITE],
        "path": import_folders(project),
        "files": files,
        "tests": None if tests is None else list(tests),
        "trace": project.files(project.sources) if trace else None,
    }
    return Command(
        argv=(PYTHON, *FLAGS, f"{INSIDE}/run_tests.py"),
        env=ENVIRONMENT,
        stdin=json.dumps(request),
        reports=(REPORT_NAME, "trace.jsonl") if trace else (REPORT_NAME,),
        warm=WARM_TESTS if trace or _has_conftest(project.root) else WARM_SESSION,
    )


@cache
def _has_conftest(root: Path) -> bool:
    return any(root.rglob("conftest.py"))


def warming_command(project: Project) -> Command:
    """Collects every test once, so that byte code of all that a run imports is in `/cache`.

    All but that of the sources: a candidate would find the original in it.
    """
    request = {
        "site": [SITE],
        "path": import_folders(project),
        "files": test_files(project),
        "tests": None,
        "collect_only": True,
        "forget": project.files(project.sources),
    }
    return Command(
        argv=(PYTHON, *FLAGS, f"{INSIDE}/run_tests.py"),
        env=ENVIRONMENT,
        stdin=json.dumps(request),
    )


def check_command(prepared: Prepared) -> Command:
    """Mypy over the sources, whatever the project's own configuration says."""
    project = prepared.project
    return Command(
        argv=(
            PYTHON, *FLAGS, f"{INSIDE}/run_module.py", SITE, "mypy", "--output", "json",
            "--config-file=", "--cache-dir=/cache/mypy", "--ignore-missing-imports",
            "--follow-imports=silent", "--no-error-summary", "--", *project.files(project.sources),
        ),
        env={**ENVIRONMENT, "MYPYPATH": ":".join(import_folders(project))},
    )  # fmt: skip


def lint_command(prepared: Prepared) -> Command:
    """Ruff's default rules over the sources."""
    project = prepared.project
    return Command(
        argv=(
            RUFF, "check", "--isolated", "--no-cache", "--output-format", "json", "--",
            *project.files(project.sources),
        ),
    )  # fmt: skip


def parse_tests(output: Output) -> Evaluation:
    """Each test's result; complete only when the last record agrees with records and status."""
    text = output.reports.get(REPORT_NAME)
    if text is None:
        return _incomplete(output, "pytest left no report: it was ended from within or killed")
    records, note = _records(text)
    tests: dict[str, TestResult] = {}
    compiled = True
    for record in records:
        if record.get("event") != "test":
            continue
        if record["id"] in tests:
            note = note or f"two results for {record['id']}"
        tests[record["id"]] = TestResult(
            TestStatus(record["status"]), record["message"], float(record["duration"])
        )
        if record.get("collection") and any(s in record["message"] for s in _SYNTAX_ERRORS):
            compiled = False
    note = note or _disagreement(records, tests, output)
    return Evaluation(
        complete=not note,
        compiled=compiled,
        tests=tests,
        limits_hit=output.limits_hit,
        duration_s=output.duration_s,
        note=note,
    )


def parse_check(output: Output) -> Evaluation:
    """The type errors of mypy; `compiled` is about syntax alone, as Python compiles the rest."""
    entries: list[Mapping[str, Any]] = []
    for line in output.stdout.splitlines():
        entry = _json_object(line)
        if entry is None:
            return _incomplete(output, f"mypy printed what is no JSON record: {line[:200]}")
        entries.append(entry)
    errors = [entry for entry in entries if entry.get("severity") == "error"]
    syntax = any(entry.get("code") == "syntax" for entry in errors)
    if output.exit_code not in _RAN and not syntax:
        return _incomplete(output, f"mypy ended with {output.exit_code}: {output.stderr[-500:]}")
    if bool(errors) != bool(output.exit_code):
        return _incomplete(output, f"mypy ended with {output.exit_code}, {len(errors)} errors")
    findings = tuple(
        Finding(str(e["file"]), int(e["line"]), str(e.get("code") or ""), str(e["message"]))
        for e in errors
    )
    return Evaluation(
        complete=not output.limits_hit,
        compiled=not syntax,
        findings=findings,
        limits_hit=output.limits_hit,
        duration_s=output.duration_s,
    )


def parse_lint(output: Output) -> Evaluation:
    """The findings of ruff."""
    try:
        entries = json.loads(output.stdout)
        findings = tuple(
            Finding(
                str(entry["filename"]).removeprefix(f"{WORK}/"),
                int(entry["location"]["row"]),
                str(entry["code"] or "syntax"),
                str(entry["message"]),
            )
            for entry in entries
        )
    except (ValueError, KeyError, TypeError) as error:
        return _incomplete(output, f"ruff's report cannot be read: {error!r}")
    if output.exit_code not in _RAN or bool(findings) != bool(output.exit_code):
        return _incomplete(output, f"ruff ended with {output.exit_code}, {len(findings)} findings")
    return Evaluation(
        complete=not output.limits_hit,
        findings=findings,
        limits_hit=output.limits_hit,
        duration_s=output.duration_s,
    )


PARSERS = {Level.TEST: parse_tests, Level.CHECK: parse_check, Level.LINT: parse_lint}


def _is_test_file(file: str) -> bool:
    """Whether pytest looks for tests in a file of that name."""
    name = file.rsplit("/", 1)[-1]
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


def _records(text: str) -> tuple[list[Mapping[str, Any]], str]:
    """The records of a report, and what is wrong with it; records after a bad line are dropped."""
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        record = _json_object(line)
        if record is None or not _is_whole(record):
            return records, f"line {number} of the report is no record"
        records.append(record)
    return records, ""


def _is_whole(record: Mapping[str, Any]) -> bool:
    if record.get("event") == "finish":
        return isinstance(record.get("exit"), int) and isinstance(record.get("count"), int)
    return (
        record.get("event") == "test"
        and isinstance(record.get("id"), str)
        and record.get("status") in set(TestStatus)
        and isinstance(record.get("message"), str)
        and isinstance(record.get("duration"), int | float)
    )


def _disagreement(
    records: Sequence[Mapping[str, Any]], tests: Mapping[str, TestResult], output: Output
) -> str:
    """Why a report is not to be believed; empty when everything agrees."""
    if output.limits_hit:
        return f"the run hit a limit: {', '.join(sorted(output.limits_hit))}"
    finishes = [record for record in records if record["event"] == "finish"]
    if len(finishes) != 1 or records[-1] is not finishes[0]:
        return "the report has no single last record of how the session ended"
    finish = finishes[0]
    if finish["count"] != len(tests):
        return f"the report speaks of {finish['count']} tests and holds {len(tests)}"
    if finish["exit"] != output.exit_code:
        return f"pytest reported exit status {finish['exit']}, the process had {output.exit_code}"
    failed = any(t.status in (TestStatus.FAILED, TestStatus.ERROR) for t in tests.values())
    if output.exit_code not in _RAN or failed != bool(output.exit_code):
        return f"exit status {output.exit_code} does not agree with the results"
    return ""


def _json_object(line: str) -> Mapping[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _incomplete(output: Output, note: str) -> Evaluation:
    if output.limits_hit:
        note = f"the run hit a limit: {', '.join(sorted(output.limits_hit))}"
    return Evaluation(
        complete=False, limits_hit=output.limits_hit, duration_s=output.duration_s, note=note
    )
