"""Runs the trials of one project, as a request on standard input says, and reports each.

The process that reads the request loads pytest and nothing of the project. One child loads the
pristine project and runs each trial first (`pristine`); where a test fails, another child of the
reading process, which has nothing of the project loaded either, writes the mutated file, runs
pytest over the failing tests as `run_tests` would, and reports what it saw.
"""

from __future__ import annotations

import json
import os
import sys

WORK = "/work/"
# A sample of those that passed goes into the second run too: the swap must not hide a failure.
PASSING_AGAIN = 8
TERMINAL = ("-q", "--no-header", "--no-summary")


def main() -> None:
    """Read the request, load what is trusted, run."""
    request = json.loads(sys.stdin.read())
    here = os.path.dirname(__file__)
    sys.path[:] = [*request["site"], *(p for p in sys.path if p and p != here)]
    import _pytest.assertion.rewrite
    import pytest

    sys.path.insert(0, here)
    import children
    import pristine
    import reporter
    import run_tests

    sys.path.pop(0)
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    sys.path[:0] = request["path"]
    sys.dont_write_bytecode = True  # a mutant's byte code is nobody's business
    # Nobody reads a terminal here, and its options are unknown without it.
    kept = [argument for argument in run_tests.ARGUMENTS if argument not in TERMINAL]
    ini = os.path.join(here, "pytest.ini")
    arguments = [*kept, "-p", "no:terminal", "--capture=no", "-c", ini]
    report = reporter.Report("/report/trials.jsonl")
    server = pristine.PristineServer([*arguments, *request["files"]])
    report.write(event="ready", **server.ready)

    def again(trial, tests):
        files = list(dict.fromkeys(test.split("::", 1)[0] for test in tests))
        records = Records()
        plugin = reporter.Reporter(records, tests)
        wanted = Wanted(tests)
        status = pytest.main([*arguments, *files], plugins=[plugin, wanted])
        return {"exit": int(status), "records": records.kept}

    for trial in request["trials"]:
        _run(trial, server, again, children.in_child, report)
    report.write(event="end")


class Records:
    """Stands where a report's file would."""

    def __init__(self):
        self.kept = []

    def write(self, **record):
        """Keep a record."""
        self.kept.append(record)


class Wanted:
    """Spares pytest from making tests that nobody asked for."""

    def __init__(self, tests):
        self._names = {
            part.split("[", 1)[0] for test in tests for part in test.split("::")[1:]
        }  # fmt: skip

    def pytest_pycollect_makeitem(self, collector, name, obj):
        """An empty list for a name that is in no wanted id; pytest's own way for the others."""
        return None if name in self._names else []


def _run(trial, server, again, in_child, report):
    edit = trial["edit"]
    pristine = mutated = None
    if edit is not None:
        with open(WORK + trial["file"], "rb") as stream:
            text = stream.read()
        changed = text[: edit["start"]] + edit["replacement"].encode() + text[edit["end"] :]
        pristine, mutated = text.decode(), changed.decode()
        _write(WORK + trial["file"], changed)
    try:
        first = server.run(trial, pristine, mutated)
        if first.get("unfit"):
            first = in_child(lambda: again(trial, trial["tests"]), trial["limit_s"])
            failing = _failing(first) if "records" in first else trial["tests"]
        else:
            failing = [test for test, problem in first.get("tests", {}).items() if problem]
        report.write(event="first", id=trial["id"], **first)
        if edit is None or failing:
            others = [test for test in trial["tests"] if test not in set(failing)]
            tests = others if edit is None else [*failing, *others[:PASSING_AGAIN]]
            second = in_child(lambda: again(trial, tests), trial["limit_s"])
            report.write(event="second", id=trial["id"], asked=tests, **second)
    finally:
        if edit is not None:
            _write(WORK + trial["file"], text)


def _failing(result):
    return [
        record["id"] for record in result["records"]
        if record["event"] == "test" and record["status"] in ("failed", "error")
    ]  # fmt: skip


def _write(path, content):
    with open(path, "wb") as stream:
        stream.write(content)


if __name__ == "__main__":
    main()
    os._exit(0)
