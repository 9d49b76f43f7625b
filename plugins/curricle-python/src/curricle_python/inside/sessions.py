"""A pytest session that is started before anything of a project is there, and finished in a fork.

What pytest does before it collects takes longer than collecting and running a few tests, and is the
same for every project without a `conftest.py`, which pytest would import at its start.
"""

from __future__ import annotations

import importlib
import os

import pytest
from _pytest.config import _prepareconfig, default_plugins

WORK = "/work"
_LATER = (
    "difflib", "pprint", "traceback", "unittest", "unittest.mock", "_pytest.assertion.util",
    "_pytest.fixtures", "tempfile", "linecache", "tokenize", "inspect",
)  # fmt: skip
"""What a run imports only when something fails or is compared."""


class Session:
    """A started session."""

    def __init__(self, arguments: list[str], place: str) -> None:
        """Start one; `place` is a folder without a `conftest.py` in it or above it."""
        for module in (*(f"_pytest.{plugin}" for plugin in default_plugins), *_LATER):
            importlib.import_module(module)
        folder = os.getcwd()
        os.chdir(WORK)
        self._config = _prepareconfig([*arguments, "--no-summary", place])
        self._config._do_configure()
        self._session = pytest.Session.from_config(self._config)
        self._config.hook.pytest_sessionstart(session=self._session)
        os.chdir(folder)

    def finish(self, files: list[str], plugins: list[object]) -> int:
        """Collect some files and run their tests, as pytest goes on after its start."""
        config, session = self._config, self._session
        for plugin in plugins:
            config.pluginmanager.register(plugin)
        config.args = list(files)
        status = pytest.ExitCode.INTERNAL_ERROR
        try:
            config.hook.pytest_collection(session=session)
            config.hook.pytest_runtestloop(session=session)
            status = pytest.ExitCode.OK
            if session.testsfailed:
                status = pytest.ExitCode.TESTS_FAILED
            elif session.testscollected == 0:
                status = pytest.ExitCode.NO_TESTS_COLLECTED
        except (KeyboardInterrupt, pytest.exit.Exception):
            status = pytest.ExitCode.INTERRUPTED
        finally:
            config.hook.pytest_sessionfinish(session=session, exitstatus=status)
        return int(status)
