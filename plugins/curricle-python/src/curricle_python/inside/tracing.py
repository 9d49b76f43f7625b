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
from collections.abc import Callable

import pytest

CALLS_PER_FUNCTION = 48
CALL_BYTES = 16 * 1024
# A function that is called a million times alike, or with what cannot be pickled, would be tried
# every time.
TRIES_PER_FUNCTION = 4 * CALLS_PER_FUNCTION
_ALL = ""
_IMPORT = "import"
_VARIADIC = 0x04, 0x08


class Function:
    """What was seen of one function, under one name in one file."""

    __slots__ = ("calls", "tests", "tries_left")

    def __init__(self) -> None:
        self.tests: set[str] = set()
        self.calls: dict[bytes, None] = {}
        self.tries_left = TRIES_PER_FUNCTION


class Tracer:
    """A pytest plugin, and the trace function that it sets."""

    def __init__(self, sources: list[str]) -> None:
        self._files = {os.path.join("/work", source): source for source in sources}
        self._functions: dict[str, Function] = {}
        self._codes: list[object] = []
        self._test = _IMPORT

    def start(self) -> None:
        """From now on every call is seen, in every thread."""
        see = self._trace_function()
        threading.settrace(see)
        sys.settrace(see)

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
            for name, function in sorted(self._functions.items()):
                tests = function.tests
                record = {
                    "function": name,
                    "tests": None if _ALL in tests else sorted(tests - {_IMPORT}),
                    "calls": [base64.b64encode(call).decode() for call in function.calls],
                }
                stream.write(json.dumps(record) + "\n")

    def _trace_function(self) -> Callable[..., None]:
        # By identity, as the hash of a code object is computed from all of it, at every call.
        known: dict[int, Function | None] = {}

        def see(frame, _event, _argument) -> None:
            code = frame.f_code
            try:
                function = known[id(code)]
            except KeyError:
                function = known[id(code)] = self._function(code)
            if function is None:
                return
            function.tests.add(self._test)
            if function.tries_left and "<locals>" not in code.co_qualname:
                function.tries_left -= 1
                _keep_call(function.calls, frame)

        return see

    def _function(self, code) -> Function | None:
        self._codes.append(code)  # as long as it is there, its identity stays its own
        name = self._name(code)
        return None if name is None else self._functions.setdefault(name, Function())

    def _name(self, code) -> str | None:
        source = self._files.get(code.co_filename)
        outermost = code.co_qualname.partition(".<locals>")[0]
        return None if source is None or "<" in outermost else f"{source}::{outermost}"


def _keep_call(calls: dict[bytes, None], frame) -> None:
    if len(calls) >= CALLS_PER_FUNCTION:
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
