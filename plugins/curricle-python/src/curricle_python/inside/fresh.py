"""Whole pytest runs in children of a process that has pytest loaded, and nothing of a project.

A session can even be started beforehand, which leaves a child nothing to do but to import, collect
and run: unless the project has `conftest.py` files, which pytest imports when it starts.
"""

from __future__ import annotations

import gc
import importlib

import pytest
from _pytest.config import _prepareconfig, default_plugins
from reporter import Reporter


class FreshRuns:
    """Makes what a child calls."""

    def __init__(self, arguments, early):
        for plugin in default_plugins:
            importlib.import_module(f"_pytest.{plugin}")  # once, and not in every child
        self._arguments = arguments
        self._session = _started(arguments) if early else None
        gc.collect()
        gc.freeze()

    def run(self, tests, deliver):
        """Run some tests and deliver the records of them; only ever called in a child."""
        files = list(dict.fromkeys(test.split("::", 1)[0] for test in tests))
        records = Records(deliver)
        plugins = [Wanted(tests), Reporter(records, tests)]
        if self._session is None:
            pytest.main([*self._arguments, *files], plugins=plugins)
        else:
            _finish(self._session, files, plugins)
        deliver({"records": records.kept})  # without the last record, which says it all


def _started(arguments):
    config = _prepareconfig(arguments, plugins=[PlainTracebacks()])
    config._do_configure()
    session = pytest.Session.from_config(config)
    config.hook.pytest_sessionstart(session=session)
    return session


def _finish(session, files, plugins):
    config = session.config
    for plugin in plugins:
        config.pluginmanager.register(plugin)
    config.args = files
    config.hook.pytest_collection(session=session)
    config.hook.pytest_runtestloop(session=session)
    config.hook.pytest_sessionfinish(session=session, exitstatus=int(session.testsfailed > 0))


class Records:
    """Stands where a report's file would, and delivers with the last record."""

    def __init__(self, deliver):
        self._deliver = deliver
        self.kept = []

    def write(self, **record):
        """Keep a record; the session's last one ends the process."""
        self.kept.append(record)
        if record["event"] == "finish":
            self._deliver({"records": self.kept})


class PlainTracebacks:
    """The exception without its traceback: pytest's parse the test file each time, in 40 ms."""

    def pytest_configure(self, config):
        """Choose that; the option itself belongs to the terminal, which is not there."""
        config.option.tbstyle = "value"


class Wanted(PlainTracebacks):
    """Spares pytest from making tests that nobody asked for."""

    def __init__(self, tests):
        self._names = {part.split("[", 1)[0] for test in tests for part in test.split("::")[1:]}

    def pytest_pycollect_makeitem(self, collector, name, obj):
        """An empty list for a name that is in no wanted id; pytest's own way for the others."""
        return None if name in self._names else []
