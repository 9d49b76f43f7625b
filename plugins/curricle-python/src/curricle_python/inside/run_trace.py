"""Runs every test once, as `run_tests` does, and reports which functions each one enters."""

from __future__ import annotations

import json
import os
import sys
import threading

WORK = "/work/"


class Tracer:
    """A pytest plugin that notes the code objects that each test enters."""

    def __init__(self, files):
        self._files = frozenset(WORK + file for file in files)
        self._codes = set()
        self.reach = {}

    def _enter(self, frame, event, argument):
        self._codes.add(frame.f_code)

    def pytest_runtest_protocol(self, item, nextitem):
        """Trace around pytest's own protocol, fixtures included."""
        from _pytest.runner import runtestprotocol

        self._codes = set()
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        try:
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            runtestprotocol(item, nextitem=nextitem)
            item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        finally:
            sys.settrace(None)
            threading.settrace(None)
        for code in self._codes:
            if code.co_filename in self._files:
                # A function within another counts as a part of it.
                name = code.co_qualname.split(".<locals>", 1)[0]
                key = f"{code.co_filename.removeprefix(WORK)}::{name}"
                self.reach.setdefault(key, set()).add(item.nodeid)
        return True


def main():
    """Read the request, run, write the map."""
    request = json.loads(sys.stdin.read())
    here = os.path.dirname(__file__)
    sys.path[:] = [*request["site"], *(p for p in sys.path if p and p != here)]
    import pytest

    sys.path.insert(0, here)
    import reporter
    import run_tests

    sys.path.pop(0)
    sys.path[:0] = request["path"]
    sys.dont_write_bytecode = True
    tracer = Tracer(request["sources"])
    arguments = [*run_tests.ARGUMENTS, "-c", os.path.join(here, "pytest.ini")]
    with reporter.Report("/report/pytest.jsonl") as report:
        plugins = [reporter.Reporter(report, None), tracer]
        status = pytest.main([*arguments, *request["files"]], plugins=plugins)
    tests = sorted({test for found in tracer.reach.values() for test in found})
    numbers = {test: number for number, test in enumerate(tests)}
    reach = {key: sorted(numbers[test] for test in found) for key, found in tracer.reach.items()}
    with open("/report/reach.json", "w") as stream:
        json.dump({"tests": tests, "reach": reach}, stream)
    return int(status)


if __name__ == "__main__":
    os._exit(main())
