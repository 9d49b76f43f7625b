"""Looking for text in source files, within bounds of hits, length and time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import regex

from curricle.agents.refusal import Refused

_MAX_PATTERN = 200


@dataclass(frozen=True)
class Hit:
    """A line that was found; `line` counts from 1."""

    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Hits:
    """What a search found; `more` says that there is more than was asked for."""

    found: tuple[Hit, ...]
    more: bool


def search(
    files: Iterable[tuple[str, str]],
    pattern: str,
    *,
    is_regex: bool = False,
    max_hits: int = 10,
    timeout_s: float = 2.0,
) -> Hits:
    """Find the lines that hold a text or match a regular expression.

    Args:
        files: Names and texts, in the order to look at.
        pattern: A literal text, or an expression.
        is_regex: Which of the two.
        max_hits: Stop after so many.
        timeout_s: Seconds for the whole search; an expression is stopped in the midst of a line.

    Raises:
        Refused: The pattern is empty, too long, no valid expression, or took too long.
    """
    if not pattern.strip():
        raise Refused("the pattern is empty.", "empty")
    if len(pattern) > _MAX_PATTERN:
        raise Refused(f"the pattern is longer than {_MAX_PATTERN} characters.", "too_long")
    expression = _compiled(pattern if is_regex else regex.escape(pattern))
    ends_at = time.monotonic() + timeout_s
    found: list[Hit] = []
    for name, text in files:
        for number, line in enumerate(text.split("\n"), start=1):
            left = ends_at - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                matched = expression.search(line, timeout=left)
            except TimeoutError:
                raise Refused(
                    f"the search took longer than {timeout_s:g} s: use a simpler pattern.",
                    "timeout",
                ) from None
            if matched is not None:
                if len(found) == max_hits:
                    return Hits(tuple(found), more=True)
                found.append(Hit(name, number, line.strip()))
    return Hits(tuple(found), more=False)


def _compiled(pattern: str) -> regex.Pattern[str]:
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise Refused(f"not a regular expression: {error}.", "malformed") from error
