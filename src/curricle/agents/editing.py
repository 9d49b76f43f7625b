"""Replacing exact text, with the leniency that changes no meaning.

A small model copies a line well and its indentation badly. So text that is not found literally is
looked for line by line without regard to white space at the ends and runs of spaces within; the
replacement takes the indentation that stands in the file. A place must be the only one; a miss says
which line comes nearest, so that the next attempt can copy it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from curricle.agents.refusal import Refused

_SHOWN_LINES = 5


@dataclass(frozen=True)
class Scope:
    """The lines that an edit may touch, counted from 1, and those of them that were not shown.

    Attributes:
        first: First line.
        last: Last line.
        silent: Lines within that the agent did not see (comments, documentation, blank lines).
    """

    first: int
    last: int
    silent: Collection[int] = ()


@dataclass(frozen=True)
class Replaced:
    """A text after a replacement; `line` is the first that changed, counted from 1."""

    text: str
    line: int


def replace_once(text: str, old: str, new: str, scope: Scope | None = None) -> Replaced:
    """Replace the only place that reads `old`.

    Args:
        text: The whole file.
        old: What stands there: part of a line, or lines.
        new: What shall stand there.
        scope: Where to look; `None` looks everywhere.

    Raises:
        Refused: `old` is empty, equal to `new`, absent (`absent`), or in several places
            (`ambiguous`); the reason names lines.
    """
    if not old.strip():
        raise Refused("old is empty: quote the text to replace.", "empty")
    if old == new:
        raise Refused("old and new are the same: nothing would change.", "same")
    lines = text.split("\n")
    scope = scope or Scope(1, len(lines))
    first, last = max(scope.first, 1), min(scope.last, len(lines))
    before = "".join(f"{line}\n" for line in lines[: first - 1])
    inside = "\n".join(lines[first - 1 : last])
    places = _occurrences(inside, old)
    whole = [start for start in places if _is_whole_line(inside, start, len(old))]
    chosen = places if len(places) == 1 else whole
    if len(chosen) == 1:
        start = len(before) + chosen[0]
        written = _indented_alike(text, start, old, new)
        changed = text[:start] + written + text[start + len(old) :]
        return Replaced(changed, text.count("\n", 0, start) + 1)
    if places:
        found = [first + inside.count("\n", 0, start) for start in places]
        raise _ambiguous(found)
    return _by_lines(lines, old, new, Scope(first, last, scope.silent))


def _by_lines(lines: list[str], old: str, new: str, scope: Scope) -> Replaced:
    """Replace whole lines that read like `old` but for white space."""
    wanted = [_squeezed(line) for line in old.split("\n") if line.strip()]
    shown = [
        number
        for number in range(scope.first, scope.last + 1)
        if number not in scope.silent and lines[number - 1].strip()
    ]
    found = [
        index
        for index in range(len(shown) - len(wanted) + 1)
        if all(
            _squeezed(lines[shown[index + offset] - 1]) == line
            for offset, line in enumerate(wanted)
        )
    ]
    if len(found) > 1:
        raise _ambiguous([shown[index] for index in found])
    if not found:
        raise _absent(lines, wanted[0], shown)
    start, end = shown[found[0]], shown[found[0] + len(wanted) - 1]
    standing = _indentation(lines[start - 1])
    quoted = _indentation(next(line for line in old.split("\n") if line.strip()))
    written = [_moved(line, quoted, standing) for line in new.strip("\n").split("\n") if new]
    if written == lines[start - 1 : end]:
        raise Refused("old and new are the same: nothing would change.", "same")
    return Replaced("\n".join([*lines[: start - 1], *written, *lines[end:]]), start)


def _occurrences(text: str, part: str) -> list[int]:
    found, start = [], text.find(part)
    while start >= 0:
        found.append(start)
        start = text.find(part, start + 1)
    return found


def _is_whole_line(text: str, start: int, length: int) -> bool:
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start + length)
    line_end = len(text) if line_end < 0 else line_end
    return not text[line_start:start].strip() and not text[start + length : line_end].strip()


def _indented_alike(text: str, start: int, old: str, new: str) -> str:
    """`new`, its further lines indented as the first one stands, if it was quoted without."""
    indentation = text[text.rfind("\n", 0, start) + 1 : start]
    first, *rest = new.split("\n")
    if not rest or not indentation or indentation.strip() or old[:1].isspace():
        return new
    if all(line.startswith(indentation) for line in rest if line.strip()):
        return new
    return "\n".join([first, *(indentation + line if line.strip() else line for line in rest)])


def _moved(line: str, quoted: str, standing: str) -> str:
    """A line indented as in the file, whose first line stands at `standing`, not at `quoted`."""
    if not line.strip():
        return ""
    return standing + (line[len(quoted) :] if line.startswith(quoted) else line.lstrip())


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _squeezed(line: str) -> str:
    return " ".join(line.split())


def _ambiguous(lines: list[int]) -> Refused:
    shown = ", ".join(map(str, lines[:_SHOWN_LINES]))
    return Refused(
        f"old stands in {len(lines)} places (lines {shown}): quote more of it.", "ambiguous"
    )


def _absent(lines: list[str], wanted: str, shown: list[int]) -> Refused:
    texts = [_squeezed(lines[number - 1]) for number in shown]
    near = difflib.get_close_matches(wanted, texts, n=1, cutoff=0.6)
    if not near:
        return Refused("old was not found: copy it from what was read.", "absent")
    return Refused(f"old was not found. Nearest: {near[0]}", "absent")
