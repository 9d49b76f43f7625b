"""Runs pytest once, as a request on standard input says, and reports to `/report`.

The interpreter starts without `site`, so nothing of a project runs before pytest and the reporter
are loaded: a project's `sitecustomize.py`, `pytest.py` or entry points are never found. Only then
do the project's folders go on the path.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import traceback

INSIDE = os.path.dirname(os.path.abspath(__file__))
HARNESS = ("pytest", "_pytest", "pluggy", "iniconfig", "hypothesis")
ARGUMENTS = (
    "-p", "no:cacheprovider", "-p", "no:junitxml", "-p", "no:pastebin",
    "-p", "no:stepwise", "-p", "no:faulthandler", "-p", "no:unraisableexception",
    "-p", "no:threadexception", "-q", "--no-header", "--tb=native", "--capture=sys",
    "--continue-on-collection-errors", "--rootdir=/work", "--confcutdir=/work",
    "-o", "addopts=", "-c", f"{INSIDE}/pytest.ini",
)  # fmt: skip


def load():
    """Import what is trusted, and leave no trace of it on the path or among the modules.

    Returns:
        The modules `pytest`, `reporter`, `tracing` and `compare`.
    """
    import pytest

    sys.path.insert(0, INSIDE)
    import compare
    import reporter
    import tracing

    # The project may have modules of the same names.
    del sys.path[0]
    for module in ("compare", "encoding", "reporter", "tracing"):
        sys.modules.pop(module, None)
    return pytest, reporter, tracing, compare


def run(request, loaded, session=None) -> int:
    """Run the request's tests in this process, in which nothing of the project is loaded yet.

    Args:
        request: What to run, as `curricle_python.running` writes it.
        loaded: What `load` gave.
        session: A session of `sessions.start`, for a project without `conftest.py`.

    Returns:
        pytest's exit status.
    """
    pytest, reporter, tracing, compare = loaded
    sys.stdin = open(os.devnull)
    os.dup2(sys.stdin.fileno(), 0)
    replay = _Replay(request["replay"], compare) if "replay" in request else None
    outside = (INSIDE, *request["path"], *request["site"])
    sys.path[:] = [*request["path"], *request["site"], *(p for p in sys.path if p not in outside)]
    # Whatever is written is thrown away with the run, except while a project is prepared.
    sys.dont_write_bytecode = "forget" not in request
    more = ["--collect-only" if request.get("collect_only") else "--no-summary"]
    with reporter.Report("/report/pytest.jsonl") as report:
        plugins = [reporter.Reporter(report, request["tests"])]
        if request.get("trace"):
            tracer = tracing.Tracer(request["trace"])
            plugins.append(tracer)
            tracer.start()
        if session is None:
            status = int(pytest.main([*ARGUMENTS, *more, *request["files"]], plugins=plugins))
        else:
            status = session.finish(request["files"], plugins)
    if replay is not None:
        replay.finish()
    if "forget" in request:
        with contextlib.suppress(ImportError):  # optional, and slow to load without byte code
            importlib.import_module("hypothesis.strategies")
    for file in request.get("forget", ()):
        compiled = importlib.util.cache_from_source(os.path.abspath(file))
        if os.path.exists(compiled):
            os.unlink(compiled)
    return status


class _Replay:
    """A child that is forked before this process meets the candidate, and meets it afterwards.

    Before, so that nothing the candidate does to this process is in it; afterwards, so that it has
    no chance to change a test on disk. It has nothing of pytest among its modules.
    """

    def __init__(self, request, compare) -> None:
        reader, self._writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(self._writer)
                os.read(reader, 1)  # returns at the end of the stream
                _forget_harness()
                compare.answer(request)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(reader)

    def finish(self) -> None:
        """Let it go on, and wait for its end, whatever that is."""
        with contextlib.suppress(OSError):  # the candidate may have closed or reaped anything
            os.close(self._writer)
        with contextlib.suppress(OSError):
            os.waitpid(self._child, 0)


def _forget_harness() -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] in HARNESS]:
        del sys.modules[module]
    sys.meta_path[:] = [
        finder
        for finder in sys.meta_path
        if type(finder).__module__.partition(".")[0] not in HARNESS
    ]
    for name in [name for name in os.environ if name.startswith("PYTEST")]:
        del os.environ[name]


def end(status: int) -> None:
    """End at once: nothing that a project registered for the end is called."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def main() -> None:
    """Serve one request in a fresh interpreter."""
    request = json.loads(sys.stdin.read())
    sys.path[:] = [*request["site"], *(p for p in sys.path if p)]
    end(run(request, load()))


if __name__ == "__main__":
    main()
