"""Fits samples into rows exactly, so that next to nothing of a row is padding.

Best-fit-decreasing leaves gaps that are shorter than the shortest sample: two per cent of a row of
512 tokens with conversations of 90. Here each row takes the longest sample that is left, and then
the samples that fill the rest of it as far as any choice can (a subset-sum over lengths).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence


def fit_rows(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Group samples into rows of at most ``capacity`` tokens.

    Args:
        lengths: tokens of each sample, each from 1 to ``capacity``.
        capacity: tokens of a row.

    Returns:
        Sample indices of each row; every sample in exactly one row. Deterministic.
    """
    waiting: dict[int, list[int]] = defaultdict(list)
    for index in reversed(range(len(lengths))):
        waiting[lengths[index]].append(index)
    rows = []
    while waiting:
        longest = max(waiting)
        chosen = [longest, *_best_fill({k: len(v) for k, v in waiting.items()}, longest, capacity)]
        rows.append([waiting[length].pop() for length in chosen])
        for length in set(chosen):
            if not waiting[length]:
                del waiting[length]
    return rows


def _best_fill(counts: dict[int, int], taken: int, capacity: int) -> list[int]:
    """Return the lengths whose sum comes closest to what ``taken`` leaves of a row.

    ``reachable`` is a set of sums as the bits of an integer, so that a length is added to all of
    them by one shift; ``added[i]`` are the sums that the i-th addition reached first.
    """
    room = capacity - taken
    counts = {**counts, taken: counts[taken] - 1}
    limit = (1 << (room + 1)) - 1
    reachable, added = 1, []
    for length in sorted((k for k, count in counts.items() if count and k <= room), reverse=True):
        for _ in range(min(counts[length], room // length)):
            new = (reachable << length) & limit & ~reachable
            if not new:
                break
            added.append((length, new))
            reachable |= new
        if reachable >> room & 1:
            break
    total = reachable.bit_length() - 1
    chosen = []
    for length, sums in reversed(added):
        if sums >> total & 1:
            chosen.append(length)
            total -= length
    return chosen
