"""Puts a mutated file's functions into a process that has the pristine file loaded.

Both texts are compiled and their code objects compared pair by pair. Where functions differ, the
live functions get the new code, whatever decorators stand around them. Where the module's or a
class's own code differs, nothing can be swapped.
"""

from __future__ import annotations

import gc
import types

_OPTIMIZED = 0x01  # inspect.CO_OPTIMIZED: set for functions, not for modules and classes


class NotSwappable(Exception):
    """The change is in code that ran once, when the file was imported."""


def swap(path, pristine, mutated, live):
    """Give the live functions of a file their mutated code.

    Args:
        path: The file, as its code objects name it.
        pristine: Its text.
        mutated: The mutated text.
        live: What `live_functions` found.

    Raises:
        NotSwappable: The mutated text has to be imported to have an effect.
        SyntaxError: The mutated text is no program.
    """
    old = compile(pristine, path, "exec", dont_inherit=True)
    new = compile(mutated, path, "exec", dont_inherit=True)
    for before, after in _changed(old, new):
        swapped = False
        for inner_before, inner_after in _nested(before, after):
            for function in live.get(_key(inner_before), ()):
                try:
                    function.__code__ = inner_after
                except ValueError as error:  # it closes over other variables than before
                    raise NotSwappable from error
                swapped = True
        if not swapped:
            raise NotSwappable


def live_functions(folder):
    """The functions of all files below a folder, by the place of their code."""
    found = {}
    for function in gc.get_objects():
        if type(function) is types.FunctionType:
            code = function.__code__
            if code.co_filename.startswith(folder):
                found.setdefault(_key(code), []).append(function)
    return found


def _key(code):
    return code.co_filename, code.co_qualname, code.co_firstlineno


def _changed(before, after):
    """The outermost pairs of functions that differ."""
    inner_before, inner_after = _inner(before), _inner(after)
    if before.co_flags & _OPTIMIZED:
        if not _same(before, after):
            yield before, after
        return
    if _shallow(before) != _shallow(after) or len(inner_before) != len(inner_after):
        raise NotSwappable
    for pair in zip(inner_before, inner_after, strict=True):
        yield from _changed(*pair)


def _nested(before, after):
    """A pair of functions, and the pairs of functions within them that may be live already."""
    yield before, after
    inner_before, inner_after = _inner(before), _inner(after)
    if [code.co_name for code in inner_before] == [code.co_name for code in inner_after]:
        for pair in zip(inner_before, inner_after, strict=True):
            yield from _nested(*pair)


def _same(before, after):
    inner_before, inner_after = _inner(before), _inner(after)
    return (
        _shallow(before) == _shallow(after)
        and len(inner_before) == len(inner_after)
        and all(_same(*pair) for pair in zip(inner_before, inner_after, strict=True))
    )


def _inner(code):
    return [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]


def _shallow(code):
    """All that decides what a code object does, but not its lines and what is within it."""
    constants = [
        "code" if isinstance(constant, types.CodeType) else (type(constant).__name__, repr(constant))
        for constant in code.co_consts
    ]
    return (
        code.co_name, code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars,
        code.co_cellvars, code.co_flags, code.co_argcount, code.co_kwonlyargcount,
        code.co_posonlyargcount, code.co_exceptiontable,
    )  # fmt: skip
