"""Half-open intervals of whole numbers: `(start, end)` holds `start` and not `end`."""

from collections.abc import Iterable

Interval = tuple[int, int]


def overlap(first: Interval, second: Interval) -> bool:
    """Whether two intervals share a number."""
    return max(first[0], second[0]) < min(first[1], second[1])


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The same numbers in the fewest intervals, in order; neighbours are joined."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def total_length(intervals: Iterable[Interval]) -> int:
    """How many numbers some intervals hold together."""
    return sum(end - start for start, end in merge(intervals))


def gaps(intervals: Iterable[Interval], within: Interval) -> list[Interval]:
    """What the intervals leave free of another one."""
    free: list[Interval] = []
    position, last = within
    for start, end in merge(intervals):
        if start > position:
            free.append((position, min(start, last)))
        position = max(position, end)
        if position >= last:
            return free
    free.append((position, last))
    return free


def index_of(intervals: list[Interval], number: int) -> int:
    """The index of the interval that holds a number, by bisection; -1 when none does.

    The intervals are in order and apart.
    """
    low, high = 0, len(intervals)
    while low < high:
        middle = (low + high) // 2
        start, end = intervals[middle]
        if number < start:
            high = middle
        elif number >= end:
            low = middle + 1
        else:
            return middle
    return -1


def parse(text: str) -> list[Interval]:
    """Read `1-3,7`: both ends of a range belong to it.

    Raises:
        ValueError: A part is no number and no range.
    """
    found: list[Interval] = []
    for part in text.split(","):
        part = part.strip()
        if not part:
            continue
        first, dash, last = part.partition("-")
        if dash and not last:
            raise ValueError(f"{part!r} has no end")
        start = int(first)
        end = int(last) if dash else start
        if end < start:
            raise ValueError(f"{part!r} runs backwards")
        found.append((start, end + 1))
    return merge(found)
