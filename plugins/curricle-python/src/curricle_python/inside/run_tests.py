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

INSIDE = os.path.dirname(os.path.abspath(__file__))
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
        The modules `pytest`, `reporter` and `tracing`.
    """
    import pytest

    sys.path.insert(0, INSIDE)
    import reporter
    import tracing

    # The project may have modules of the same names.
    del sys.path[0], sys.modules["reporter"], sys.modules["tracing"]
    return pytest, reporter, tracing


def run(request, loaded, session=None) -> int:
    """Run the request's tests in this process, in which nothing of the project is loaded yet.

    Args:
        request: What to run, as `curricle_python.running` writes it.
        loaded: What `load` gave.
        session: A session of `sessions.start`, for a project without `conftest.py`.

    Returns:
        pytest's exit status.
    """
    pytest, reporter, tracing = loaded
    sys.stdin = open(os.devnull)
    os.dup2(sys.stdin.fileno(), 0)
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
    if "forget" in request:
        with contextlib.suppress(ImportError):  # optional, and slow to load without byte code
            importlib.import_module("hypothesis.strategies")
    for file in request.get("forget", ()):
        compiled = importlib.util.cache_from_source(os.path.abspath(file))
        if os.path.exists(compiled):
            os.unlink(compiled)
    return status


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
