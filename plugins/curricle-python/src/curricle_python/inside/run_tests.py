"""Runs pytest once, as a request on standard input says, and reports to `/report`.

The interpreter starts without `site`, so nothing of a project runs before pytest and the reporter
are loaded: a project's `sitecustomize.py`, `pytest.py` or entry points are never found. Only then
do the project's folders go on the path.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys

ARGUMENTS = (
    "-p", "no:cacheprovider", "-p", "no:junitxml", "-p", "no:pastebin",
    "-p", "no:stepwise", "-p", "no:faulthandler", "-q", "--no-header",
    "--continue-on-collection-errors", "--rootdir=/work", "--confcutdir=/work",
    "-o", "addopts=",
)  # fmt: skip


def main() -> int:
    """Read the request, load what is trusted, then run: the exit status is pytest's."""
    request = json.loads(sys.stdin.read())
    sys.path[:] = [*request["site"], *(p for p in sys.path if p and p != os.path.dirname(__file__))]
    import pytest

    sys.path.insert(0, os.path.dirname(__file__))
    import reporter
    import tracing

    # The project may have modules of the same names.
    del sys.path[0], sys.modules["reporter"], sys.modules["tracing"]
    status = run(request, pytest, reporter, tracing)
    for file in request.get("forget", ()):
        compiled = importlib.util.cache_from_source(os.path.abspath(file))
        if os.path.exists(compiled):
            os.unlink(compiled)
    return status


def run(request, pytest, reporter, tracing) -> int:
    """Run the request's tests in this process, in which nothing of the project is loaded yet."""
    sys.stdin = open(os.devnull)
    os.dup2(sys.stdin.fileno(), 0)
    sys.path[:0] = request["path"]
    sys.dont_write_bytecode = False
    more = ["--collect-only" if request.get("collect_only") else "--no-summary"]
    arguments = [*ARGUMENTS, *more, "-c", os.path.join(os.path.dirname(__file__), "pytest.ini")]
    with reporter.Report("/report/pytest.jsonl") as report:
        plugins = [reporter.Reporter(report, request["tests"])]
        if request.get("trace"):
            tracer = tracing.Tracer(request["trace"])
            plugins.append(tracer)
            tracer.start()
        return int(pytest.main([*arguments, *request["files"]], plugins=plugins))


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
