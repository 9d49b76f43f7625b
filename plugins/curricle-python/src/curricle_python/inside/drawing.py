"""Inputs for a function: those that tests used, then more of their kind, drawn by hypothesis."""

from __future__ import annotations

import base64
import pickle
import time
import typing
from contextlib import suppress

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

EXAMPLES = 150
KEPT = 80
DRAW_S = 4.0
_NEAR = 10


class _Enough(BaseException):
    """No more inputs are wanted: drawing one of thousands of numbers may take a tenth of a second.

    Not an `Exception`, which hypothesis would take for a failure of what it tests.
    """


def draw(request, function, outcome_twice):
    """Records of inputs and of what the original does with them.

    An input that makes an operation of the original fail is kept only when a test used it: outside
    of what a function is for, an equivalent one may fail in another way.
    """
    seen = [call for call in map(base64.b64decode, request["calls"]) if _is_readable(call)]
    kept: dict[bytes, list] = {}
    ends = time.monotonic() + DRAW_S
    for call in seen:
        if time.monotonic() > ends:
            break
        found = outcome_twice(function, call)
        if found is not None:
            kept[call] = found
    limit = len(kept) + KEPT
    ends += DRAW_S

    def consider(arguments) -> None:
        if len(kept) >= limit or time.monotonic() > ends:
            raise _Enough
        try:
            call = pickle.dumps(arguments, protocol=4)
        except Exception:
            return  # an input that cannot be given again
        if call in kept or not _is_readable(call):
            return
        found = outcome_twice(function, call)
        if found is not None and (found[0] == "returned" or found[2]):
            kept[call] = found

    strategy = _strategy([pickle.loads(call) for call in seen], function)
    if strategy is not None:
        with suppress(_Enough):
            _examples(strategy, request["seed"], consider)
    for call, found in kept.items():
        yield {"input": base64.b64encode(call).decode(), "outcome": found}


def _is_readable(call: bytes) -> bool:
    """Whether a call that was recorded can be made again, outside of the test that made it."""
    try:
        pickle.loads(call)
    except Exception:  # a class of a test module, or one that is pickled without its arguments
        return False
    return True


def _examples(strategy, number: int, consider) -> None:
    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def run(arguments):
        consider(arguments)

    run()


def _strategy(calls, function):
    """Whole calls of the shapes that were seen, each argument drawn like its own seen values."""
    if not calls:
        return _from_annotations(function)
    shapes = {}
    for positional, keywords in calls:
        shape = (len(positional), tuple(sorted(keywords)))
        shapes.setdefault(shape, []).append((positional, keywords))
    return st.one_of(
        [
            st.tuples(
                st.tuples(*[_like([p[n] for p, _ in group]) for n in range(count)]).map(list),
                st.fixed_dictionaries({k: _like([w[k] for _, w in group]) for k in names}),
            )
            for (count, names), group in shapes.items()
        ]
    )


def _from_annotations(function):
    try:
        hints = typing.get_type_hints(function)
    except Exception:
        return None  # a name that only a type checker resolves
    hints.pop("return", None)
    code = getattr(function, "__code__", None)
    if code is None or set(code.co_varnames[: code.co_argcount]) != set(hints):
        return None
    plain = {int, str, float, bool, bytes}
    names = code.co_varnames[: code.co_argcount]
    if not names or not all(hints[name] in plain for name in names):
        return None
    return st.tuples(st.tuples(*[st.from_type(hints[n]) for n in names]).map(list), st.just({}))


def _like(values):
    """A strategy for values of the kinds of some; half of the time one of themselves."""
    kinds: dict[type, list] = {}
    for value in values:
        kinds.setdefault(type(value), []).append(value)
    return st.one_of(_again(values), *[_of_kind(kind, members) for kind, members in kinds.items()])


def _again(values):
    pickled = [pickle.dumps(value, protocol=4) for value in values]
    # Unpickled each time: a call may change its arguments.
    return st.sampled_from(pickled).map(pickle.loads)


def _of_kind(kind, values):
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(min(values) - _NEAR, max(values) + _NEAR)
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False, width=32)
    if kind is str:
        letters = sorted({letter for value in values for letter in value} | set("a Z0_-."))
        return st.text(st.sampled_from(letters), max_size=max(map(len, values)) + 4)
    if kind is bytes:
        return st.binary(max_size=max(map(len, values)) + 4)
    if kind in (list, tuple, set, frozenset):
        return _collections(kind, values)
    if kind is dict:
        keys = [key for value in values for key in value]
        items = [item for value in values for item in value.values()]
        if not keys:
            return st.just({})
        return st.dictionaries(_like(keys), _like(items), max_size=max(map(len, values)) + 2)
    return _again(values)


def _collections(kind, values):
    lengths = {len(value) for value in values}
    if kind is tuple and len(lengths) == 1:
        return st.tuples(*[_like([v[n] for v in values]) for n in range(lengths.pop())])
    items = [item for value in values for item in value]
    if not items:
        return st.just(kind())
    return st.lists(_like(items), max_size=max(lengths) + 2).map(kind)
