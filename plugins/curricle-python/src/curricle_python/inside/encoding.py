"""Any value as text, so that equal texts mean values that no test could tell apart.

By exact type, never by what a value says of itself: an `int` that overrides `__eq__` is no `int`.
"""

from __future__ import annotations

import hashlib

LONGEST = 2000
ITEMS = 200
_DEPTH = 8


def encode(value) -> str:
    """The value as text; a long one by its beginning and its hash."""
    text = _encode(value, _DEPTH, set())
    if len(text) <= LONGEST:
        return text
    return f"{text[:200]}... {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}"


def _encode(value, depth: int, within: set[int]) -> str:
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return repr(value)
    if kind is float:
        # Another order of additions is no other answer.
        return f"float {value:.12g}"
    if depth == 0 or id(value) in within:
        return f"... {kind.__qualname__}"
    return _encode_compound(value, kind, depth - 1, within | {id(value)})


def _encode_compound(value, kind, depth: int, within: set[int]) -> str:
    def inner(item) -> str:
        return _encode(item, depth, within)

    if kind is list or kind is tuple:
        return f"{kind.__name__}({', '.join(map(inner, value))})"
    if kind is set or kind is frozenset:
        return f"{kind.__name__}({', '.join(sorted(map(inner, value)))})"
    if kind is dict:
        pairs = sorted(f"{inner(key)}: {inner(item)}" for key, item in value.items())
        return f"dict({', '.join(pairs)})"
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, type):
        return f"class {value.__module__}.{value.__qualname__}"
    if hasattr(kind, "__next__"):
        items = []
        for item in value:
            items.append(inner(item))
            if len(items) == ITEMS:
                break
        # A lazy answer may come as any kind of iterator.
        return f"iterator({', '.join(items)})"
    if callable(value):
        return f"callable {getattr(value, '__qualname__', name)}"
    parts = []
    for base in (tuple, list, dict, set, frozenset, int, str, float, bytes):
        if base in kind.__mro__:
            parts.append(inner(_plain(base, value)))
            break
    attributes = _attributes(value, kind)
    if attributes:
        parts += [f"{key}={inner(item)}" for key, item in sorted(attributes.items())]
    elif not parts:
        parts.append(_shown(value))
    return f"object {name}({', '.join(parts)})"


def _shown(value) -> str:
    try:
        shown = repr(value)
    except Exception as error:  # as of an object whose `__init__` was refused before it set a thing
        return f"repr raised {type(error).__name__}"
    return "" if " at 0x" in shown else shown


def _plain(base, value):
    """A value of a derived class as its base, read by the base's own methods."""
    if base in (tuple, list, set, frozenset):
        return base(base.__iter__(value))
    if base is dict:
        return dict(dict.items(value))
    return base.__repr__(value)


def _attributes(value, kind) -> dict[str, object]:
    try:
        found = dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        found = {}
    for parent in kind.__mro__:
        slots = parent.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__"):
                try:
                    found[slot] = object.__getattribute__(value, slot)
                except AttributeError:
                    continue
    return found
