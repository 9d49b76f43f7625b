"""A process with the pristine project loaded and its tests collected, forked once per trial.

Tests run without pytest's hooks around them, which cost ten times as much as a short test. What
such a run finds is only believed where a whole pytest run in a fresh process finds the same; tests
that need the hooks are found by running them all once on the pristine project.
"""

from __future__ import annotations

import json
import os
import socket

from children import in_child
from swapping import NotSwappable, live_functions, swap

WORK = "/work/"


class Collected:
    """A pytest plugin that keeps nothing but what was collected."""

    def pytest_collectreport(self, report):
        """Fail as pytest would, but before any trial."""
        if report.failed:
            raise RuntimeError(str(report.longrepr))


def collect(arguments):
    """Collect all tests as pytest does, and return them by id."""
    import pytest
    from _pytest.config import _prepareconfig

    config = _prepareconfig(arguments, plugins=[Collected()])
    config._do_configure()
    session = pytest.Session.from_config(config)
    config.hook.pytest_sessionstart(session=session)
    config.hook.pytest_collection(session=session)
    return {item.nodeid: item for item in session.items}


class PristineServer:
    """The client's side of that process."""

    def __init__(self, arguments):
        self._socket, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._socket.close()
                _serve(theirs, arguments)
            finally:
                os._exit(0)
        theirs.close()
        self._stream = self._socket.makefile("rw")
        self.ready = json.loads(self._stream.readline() or '{"error": "it died"}')

    def run(self, trial, pristine, mutated):
        """Run a trial; `{"unfit": True}` when its change cannot be swapped in."""
        request = {**trial, "pristine": pristine, "mutated": mutated}
        self._stream.write(json.dumps(request) + "\n")
        self._stream.flush()
        return json.loads(self._stream.readline() or '{"died": -1}')


def _serve(connection, arguments):
    import gc

    stream = connection.makefile("rw")
    try:
        items = collect(arguments)
    except BaseException as error:  # whatever a project's import raises: reported, not hidden
        stream.write(json.dumps({"error": repr(error)[:2000]}) + "\n")
        stream.flush()
        return
    live = live_functions(WORK)
    gc.collect()
    gc.freeze()
    # Calibrate: a test that fails here needs more than its own setup, and is left to pytest.
    plain = in_child(lambda deliver: deliver(run_plainly(list(items.values()))), 120.0)
    plain = {
        test
        for test, problem in plain.get("tests", {}).items()
        if not problem and "subtests" not in getattr(items[test], "fixturenames", ())
    }
    stream.write(json.dumps({"tests": len(items), "plain": len(plain)}) + "\n")
    stream.flush()
    for line in stream:
        request = json.loads(line)
        chosen = [items[test] for test in request["tests"] if test in items]
        if not plain.issuperset(request["tests"]):
            answer = {"unfit": True}
        else:
            answer = in_child(
                lambda deliver, r=request, c=chosen: deliver(_trial(r, c, live)),
                request["limit_s"],
            )
        stream.write(json.dumps(answer) + "\n")
        stream.flush()


def _trial(request, items, live):
    if request["mutated"] is not None:
        try:
            swap(WORK + request["file"], request["pristine"], request["mutated"], live)
        except NotSwappable:
            return {"unfit": True}
        except SyntaxError as error:
            return {"broken": repr(error)}
    return run_plainly(items)


def run_plainly(items):
    """Each test's setup, call and teardown; empty text for one that passed."""
    tests = {}
    for index, item in enumerate(items):
        following = items[index + 1] if index + 1 < len(items) else None
        tests[item.nodeid] = _problem(item, following)
    return {"tests": tests}


def _problem(item, following):
    state = item.session._setupstate
    problem = ""
    parts = []
    # Parts of a unittest (`subTest`) are reported through hooks, and the test itself then passes.
    item.addSubTest = lambda case, part, error: parts.append(error)
    try:
        state.setup(item)
        item.runtest()
        if getattr(item, "_excinfo", None):  # how pytest keeps what unittest reports
            problem = repr(item._excinfo[0].value)[:200]
        problem = problem or next((repr(error[1])[:200] for error in parts if error), "")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a skip, a failure, an exit: none of them is a pass
        problem = repr(error)[:200] or "failed"
    try:
        state.teardown_exact(following)
    except BaseException as error:
        problem = problem or repr(error)[:200]
    return problem
