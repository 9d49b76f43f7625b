"""A pytest plugin that writes one JSON record per line: each test, then how the session ended.

A record that says how many tests there were comes last, so that a report that was cut is never
taken for a whole one.
"""

from __future__ import annotations

import json
import os

import pytest

MESSAGE_CHARACTERS = 4000


class Report:
    """An append-only file of records, opened before anything of a project is loaded."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def write(self, **record: object) -> None:
        """Append one record, at once."""
        os.write(self._descriptor, (json.dumps(record) + "\n").encode())

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


class Reporter:
    """Selects the wanted tests and reports each one's result as soon as it is known."""

    def __init__(self, report: Report, wanted: list[str] | None) -> None:
        self._report = report
        self._wanted = None if wanted is None else frozenset(wanted)
        self._names = {part.split("[", 1)[0] for test in wanted or () for part in test.split("::")}
        self._phases: dict[str, tuple[str, str, float]] = {}
        self._count = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, name):
        """Make nothing of a name that is in no wanted id; pytest's own way for the others."""
        return None if self._wanted is None or name in self._names else []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config, items) -> None:
        """Drop what was not asked for."""
        if self._wanted is not None:
            dropped = [item for item in items if item.nodeid not in self._wanted]
            items[:] = [item for item in items if item.nodeid in self._wanted]
            config.hook.pytest_deselected(items=dropped)

    def pytest_collectreport(self, report) -> None:
        """A file that cannot be collected is one test in error, by the file's id."""
        if report.failed:
            text = str(report.longrepr)
            self._write(report.nodeid, "error", text[-MESSAGE_CHARACTERS:], 0.0, collection=True)

    def pytest_runtest_logreport(self, report) -> None:
        """Keep the worst of a test's phases; its teardown is the last."""
        status, message, duration = self._phases.get(report.nodeid, ("passed", "", 0.0))
        if status == "passed":
            status, message = _status(report), _message(report)
        self._phases[report.nodeid] = (status, message, duration + report.duration)
        if report.when == "teardown":
            self._write(report.nodeid, *self._phases.pop(report.nodeid))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus) -> None:
        """Say how the session ended and how many records came before."""
        self._report.write(event="finish", exit=int(exitstatus), count=self._count)

    def _write(self, node: str, status: str, message: str, duration: float, **more: object) -> None:
        self._count += 1
        self._report.write(
            event="test", id=node, status=status, message=message, duration=duration, **more
        )


def _status(report) -> str:
    if report.failed:
        return "failed" if report.when == "call" else "error"
    # An expected failure is no pass, whichever way it ended.
    return "skipped" if report.skipped or hasattr(report, "wasxfail") else "passed"


def _message(report) -> str:
    """The failing assertion, where it is, and the traceback that leads there."""
    if not report.failed:
        return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    crash = getattr(report.longrepr, "reprcrash", None)
    head = "" if crash is None else f"{crash.message}\n{os.path.relpath(crash.path)}:{crash.lineno}"
    trace = str(report.longrepr).replace('"/work/', '"')
    return f"{head}\n\n{trace}"[:MESSAGE_CHARACTERS]
