"""How an expert words an edit: whole lines, as few as make the place the only one."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from curricle.agents.editing import Scope, replace_once
from curricle.agents.refusal import Refused

_MAX_LINES = 8
_WHY_CHARS = 60
_WORD = re.compile(r"\w+\s*|\s+|[^\w\s]+\s*")


@dataclass(frozen=True)
class Quote:
    """An edit in the words of a call, and the line of the old text where it begins."""

    old: str
    new: str
    line: int


def quote_change(before: str, after: str, scope: Scope) -> Quote | None:
    """The edit that turns one text into another, quoting whole lines.

    One line is quoted without its indentation, several as they stand. `None` when no quote of a
    few lines is accepted, or none gives the other text.

    Args:
        before: The text as it is.
        after: The text as it shall be.
        scope: The lines in which the quoted text must be unique.
    """
    old_lines, new_lines = before.split("\n"), after.split("\n")
    start, old_end, new_end = _changed_block(old_lines, new_lines)
    for first, last in _widening(start, old_end, scope):
        old = old_lines[first:last]
        new = new_lines[first : new_end + last - old_end]
        if len(old) == 1 and len(new) == 1 and _indentation(old[0]) == _indentation(new[0]):
            quote = Quote(old[0].strip(), new[0].strip(), first + 1)
        else:
            quote = Quote("\n".join(old), "\n".join(new), first + 1)
        try:
            if replace_once(before, quote.old, quote.new, scope).text == after:
                return quote
        except Refused:
            continue
    return None


def edit_arguments(quote: Quote, explain: bool) -> dict[str, str]:
    """The arguments of an `edit` call, in the order in which they are thought of."""
    why = {"why": what_undoes(quote)} if explain else {}
    return {"old": quote.old, **why, "new": quote.new}


def what_undoes(quote: Quote) -> str:
    """What is wrong with the old text, in the words that differ."""
    texts = (quote.old, quote.new)
    if quote.old.count("\n") == quote.new.count("\n"):
        old, new = (_WORD.findall(text) for text in texts)
    else:  # a line is missing, or too much: words would be matched across lines
        old, new = ([f"{line}\n" for line in text.split("\n")] for text in texts)
    start, old_end, new_end = _changed_block(old, new)
    stands, belongs = (
        " ".join("".join(words).split())[:_WHY_CHARS]
        for words in (old[start:old_end], new[start:new_end])
    )
    if not stands:
        return f"missing: {belongs}"
    return f"{stands} should be {belongs}" if belongs else f"too much: {stands}"


def miscopied(text: str, quote: Quote, scope: Scope, draw: random.Random) -> str | None:
    """The quoted text with a small slip, such that it is refused as absent."""
    slips = list(_slips(quote.old))
    draw.shuffle(slips)
    return next((slip for slip in slips if _refusal(text, slip, quote, scope) == "absent"), None)


def too_short(text: str, quote: Quote, scope: Scope, draw: random.Random) -> str | None:
    """A part of the quoted text that stands in several places."""
    words = sorted({*re.findall(r"\w+(?:\W+\w+)?", quote.old), *re.findall(r"\w+", quote.old)})
    draw.shuffle(words)
    words.sort(key=len, reverse=True)
    return next((word for word in words if _refusal(text, word, quote, scope) == "ambiguous"), None)


def _changed_block(old: list[str], new: list[str]) -> tuple[int, int, int]:
    """First changed line, and the ends of the changed blocks, exclusive."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    old_end, new_end = len(old), len(new)
    while old_end > start and new_end > start and old[old_end - 1] == new[new_end - 1]:
        old_end -= 1
        new_end -= 1
    return start, old_end, new_end


def _widening(start: int, end: int, scope: Scope) -> Iterator[tuple[int, int]]:
    """The changed lines, then with a line that is shown above, below, above, ... them."""
    first, last = start, end
    if last > first:
        yield first, last
    lowest, highest = scope.first - 1, scope.last
    for step in range(_MAX_LINES):
        moved = _up(first, lowest, scope) if step % 2 == 0 else _down(last, highest, scope)
        if moved is None:
            continue
        if step % 2 == 0:
            first = moved
        else:
            last = moved
        yield first, last


def _up(first: int, lowest: int, scope: Scope) -> int | None:
    return next((i for i in range(first - 1, lowest - 1, -1) if i + 1 not in scope.silent), None)


def _down(last: int, highest: int, scope: Scope) -> int | None:
    return next((i + 1 for i in range(last, highest) if i + 1 not in scope.silent), None)


def _slips(old: str) -> Iterator[str]:
    for match in re.finditer(r"\w{3,}", old):
        word = match[0]
        for slip in (word[:-1], word[0] + word[2:], word[:-2] + word[-1] + word[-2], f"{word}s"):
            yield old[: match.start()] + slip + old[match.end() :]
    for match in re.finditer(r"[\"'()\[\]:,.]", old):
        yield old[: match.start()] + old[match.end() :]


def _refusal(text: str, old: str, quote: Quote, scope: Scope) -> str:
    try:
        replace_once(text, old, quote.new, scope)
    except Refused as refused:
        return refused.kind
    return ""


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
