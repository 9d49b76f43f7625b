"""Calls one function with many inputs and reports what it does, in a form that can be compared.

Over the original tree (`draw`) hypothesis makes inputs after those that tests were seen to use, and
only what the original answers in the same way twice is kept. Over a candidate's tree (`replay`) the
same inputs are given, and nothing in the process knows the answers.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import pickle
import signal
import sys

INSIDE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, INSIDE)
import encoding  # noqa: E402 (the interpreter does not look beside the script by itself)

del sys.path[0]

CALL_S = 0.25


class _TooSlow(BaseException):
    """A call took too long to be a useful input."""


def main() -> None:
    """Serve one request in a fresh interpreter."""
    request = json.loads(sys.stdin.read())
    sys.stdin = open(os.devnull)
    os.dup2(sys.stdin.fileno(), 0)
    answer(request)


def answer(request) -> None:
    """Write the report of a request, and end the process with it."""
    draw = _replay
    if request["mode"] == "draw":
        sys.path += [INSIDE, *request["site"]]
        from drawing import draw
    # The project may have modules of the same names.
    for module in ("encoding", "drawing"):
        sys.modules.pop(module, None)
    outside = (INSIDE, *request["path"], *request["site"])
    sys.path[:] = [*request["path"], *(p for p in sys.path if p and p not in outside)]
    sys.dont_write_bytecode = True
    function = _load(request)
    records = [] if function is None else list(draw(request, function, outcome_twice))
    # Opened only now: a function that is given a number may close the descriptor of that number.
    with open("/report/compare.jsonl", "w") as report:
        for record in [*records, {"count": len(records)}]:
            report.write(json.dumps(record) + "\n")
    os._exit(0)


def _load(request):
    """The function itself, beneath descriptors and decorators that keep it as `__wrapped__`.

    `None` for one that is gone once its module is loaded.
    """
    found = importlib.import_module(request["module"])
    owner = ""
    for name in request["function"].split("."):
        is_private = owner and name.startswith("__") and not name.endswith("__")
        found = vars(found).get(f"_{owner}{name}" if is_private else name)
        if found is None:
            return None
        owner = name.lstrip("_")
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    return found


def _replay(request, function, _outcome_twice):
    for call in request["inputs"]:
        yield {"outcome": outcome(function, base64.b64decode(call))}


def outcome(function, call: bytes):
    """What a call with these pickled arguments returns or raises, and leaves in its arguments."""
    positional, keywords = pickle.loads(call)
    try:
        returned = function(*positional, **keywords)
        result = ["returned", encoding.encode(returned)]
    except _TooSlow:
        raise
    except BaseException as error:
        result = ["raised", type(error).__name__, _is_deliberate(error)]
    return [*result, encoding.encode([positional, keywords])]


def outcome_twice(function, call: bytes):
    """The outcome of a call; `None` when it is slow, or not the same the second time."""
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, CALL_S)
    try:
        first = outcome(function, call)
        return first if first == outcome(function, call) else None
    except _TooSlow:
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(*_):
    raise _TooSlow


def _is_deliberate(error: BaseException) -> bool:
    """Whether a `raise` statement of the project raised it, and no operation that failed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not trace.tb_frame.f_code.co_filename.startswith("/work/"):
        return False
    with open(trace.tb_frame.f_code.co_filename, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    return lines[trace.tb_lineno - 1].strip().startswith("raise")


if __name__ == "__main__":
    main()
