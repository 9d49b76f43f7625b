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
import time

WORK = "/work/"
# What goes into the second run: that many of the failing tests prove a mutant, and some that passed
# show that the swap hid no failure.
FAILING_AGAIN = 24
PASSING_AGAIN = 6
TERMINAL = ("-q", "--no-header", "--no-summary", "--tb")


def main() -> None:
    """Read the request, load what is trusted, run."""
    request = json.loads(sys.stdin.read())
    here = os.path.dirname(__file__)
    sys.path[:] = [*request["site"], *(p for p in sys.path if p and p != here)]
    import pytest  # noqa: F401 (before any folder of ours is on the path)

    sys.path.insert(0, here)
    import children
    import fresh
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
    kept = [argument for argument in run_tests.ARGUMENTS if not argument.startswith(TERMINAL)]
    ini = os.path.join(here, "pytest.ini")
    arguments = [*kept, "-p", "no:terminal", "--capture=no", "-c", ini]
    report = reporter.Report("/report/trials.jsonl")
    server = pristine.PristineServer([*arguments, *request["files"]])
    report.write(event="ready", **server.ready)

    runs = fresh.FreshRuns(arguments, early=not request["conftests"])
    for trial in request["trials"]:
        _run(trial, server, runs.run, children.in_child, report)
    report.write(event="end")


def _run(trial, server, again, in_child, report):
    edit = trial["edit"]
    pristine = mutated = None
    if edit is not None:
        with open(WORK + trial["file"], "rb") as stream:
            text = stream.read()
        changed = text[: edit["start"]] + edit["replacement"].encode() + text[edit["end"] :]
        pristine, mutated = text.decode(), changed.decode()
        _write(WORK + trial["file"], changed)
    started = time.monotonic()
    try:
        first = server.run(trial, pristine, mutated)
        if first.get("unfit"):
            first = in_child(lambda deliver: again(trial["tests"], deliver), trial["limit_s"])
            failing = _failing(first) if "records" in first else trial["tests"]
        else:
            failing = [test for test, problem in first.get("tests", {}).items() if problem]
        report.write(event="first", id=trial["id"], seconds=time.monotonic() - started, **first)
        if edit is None or failing:
            others = [test for test in trial["tests"] if test not in set(failing)]
            tests = others
            if edit is not None:
                tests = [*_some(failing, FAILING_AGAIN), *_some(others, PASSING_AGAIN)]
            started = time.monotonic()
            second = in_child(lambda deliver: again(tests, deliver), trial["limit_s"])
            seconds = time.monotonic() - started
            report.write(event="second", id=trial["id"], asked=tests, seconds=seconds, **second)
    finally:
        if edit is not None:
            _write(WORK + trial["file"], text)


def _some(tests, most):
    """At most so many of a list, evenly spread over it."""
    return (
        [tests[index * len(tests) // most] for index in range(most)] if len(tests) > most else tests
    )


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
