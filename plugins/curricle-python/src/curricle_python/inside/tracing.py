"""Records which functions each test enters, and what it calls them with.

A trace function that asks for no lines sees every call. What runs in a fixture that several tests
share counts as entered by every test; what only runs while tests are imported, by none: no change
of it can be told from another by running a test again.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import threading

import pytest

CALLS_PER_FUNCTION = 48
CALL_BYTES = 16 * 1024
# A function that is called a million times alike, or with what cannot be pickled, would be tried
# every time.
TRIES_PER_FUNCTION = 4 * CALLS_PER_FUNCTION
_ALL = ""
_IMPORT = "import"
_VARIADIC = 0x04, 0x08


class Tracer:
    """A pytest plugin, and the trace function that it sets."""

    def __init__(self, sources: list[str]) -> None:
        self._files = {os.path.join("/work", source): source for source in sources}
        self._names: dict[object, str | None] = {}
        self._reached: dict[str, set[str]] = {}
        self._calls: dict[str, dict[bytes, None]] = {}
        self._tries: dict[str, int] = {}
        self._test = _IMPORT

    def start(self) -> None:
        """From now on every call is seen, in every thread."""
        threading.settrace(self._see)
        sys.settrace(self._see)

    def pytest_collection_finish(self) -> None:
        """All test files are imported."""
        self._test = _ALL

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        """What runs inside belongs to the test."""
        self._test = item.nodeid
        try:
            return (yield)
        finally:
            self._test = _ALL

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        """What a shared fixture enters, every test may depend on."""
        test = self._test
        if fixturedef.scope != "function":
            self._test = _ALL
        try:
            return (yield)
        finally:
            self._test = test

    def pytest_unconfigure(self) -> None:
        """Write one record for each function that was entered."""
        sys.settrace(None)
        threading.settrace(None)
        with open("/report/trace.jsonl", "w") as stream:
            for name, tests in sorted(self._reached.items()):
                record = {
                    "function": name,
                    "tests": None if _ALL in tests else sorted(tests - {_IMPORT}),
                    "calls": [base64.b64encode(c).decode() for c in self._calls.get(name, ())],
                }
                stream.write(json.dumps(record) + "\n")

    def _see(self, frame, _event, _argument) -> None:
        code = frame.f_code
        try:
            name = self._names[code]
        except KeyError:
            name = self._names[code] = self._name(code)
        if name is None:
            return
        self._reached.setdefault(name, set()).add(self._test)
        if "<locals>" not in code.co_qualname:
            self._keep_call(name, frame)

    def _name(self, code) -> str | None:
        source = self._files.get(code.co_filename)
        outermost = code.co_qualname.partition(".<locals>")[0]
        return None if source is None or "<" in outermost else f"{source}::{outermost}"

    def _keep_call(self, name: str, frame) -> None:
        calls = self._calls.setdefault(name, {})
        tries = self._tries[name] = self._tries.get(name, 0) + 1
        if len(calls) >= CALLS_PER_FUNCTION or tries > TRIES_PER_FUNCTION:
            return
        code, values = frame.f_code, frame.f_locals
        names = code.co_varnames
        count = code.co_argcount
        keyword_only = names[count : count + code.co_kwonlyargcount]
        rest = count + code.co_kwonlyargcount
        try:
            positional = [values[n] for n in names[:count]]
            keywords = {n: values[n] for n in keyword_only}
            if code.co_flags & _VARIADIC[0]:
                positional += values[names[rest]]
                rest += 1
            if code.co_flags & _VARIADIC[1]:
                keywords.update(values[names[rest]])
            call = pickle.dumps((positional, keywords), protocol=4)
        except Exception:
            return  # what cannot be pickled is no input that can be given again
        if len(call) <= CALL_BYTES:
            calls.setdefault(call)
