"""The few statistics by which agents are judged. Rates come with intervals, gains with pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rate:
    """A share with its confidence interval.

    Attributes:
        value: Between 0 and 1; NaN is never made: of nothing, it is 0 with the interval 0 to 1.
        low: Lower end.
        high: Upper end.
        count: What was counted, as a sum.
        of: Of how many.
    """

    value: float
    low: float
    high: float
    count: float
    of: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form, rounded to four digits."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Comparison:
    """Two ways over the same tasks.

    Attributes:
        tasks: How many both have a result of.
        both: Tasks that both fix.
        only_first: Tasks that only the first fixes.
        only_second: Tasks that only the second fixes.
        gain: Mean of second minus first.
        low: Lower end of its interval.
        high: Upper end.
        p: Of McNemar's exact test, two-sided.
    """

    tasks: int
    both: int
    only_first: int
    only_second: int
    gain: float
    low: float
    high: float
    p: float

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form, rounded to four digits."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def wilson_rate(count: int, of: int, confidence: float = 0.95) -> Rate:
    """A rate with Wilson's score interval (Wilson, 1927), which holds for few and for rare events.

    Raises:
        ValueError: `count` is not between 0 and `of`.
    """
    if not 0 <= count <= of:
        raise ValueError(f"{count} of {of} is no rate")
    if of == 0:
        return Rate(0.0, 0.0, 1.0, 0, 0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = count / of
    scale = 1 + z * z / of
    centre = (share + z * z / (2 * of)) / scale
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / scale
    return Rate(share, max(0.0, centre - half), min(1.0, centre + half), count, of)


def mean_rate(
    values: Sequence[float], *, seed: int = 0, draws: int = 10_000, confidence: float = 0.95
) -> Rate:
    """The mean of shares of several attempts each, with a bootstrap interval over the tasks."""
    if not len(values):
        return Rate(0.0, 0.0, 1.0, 0, 0)
    shares = np.asarray(values, dtype=float)
    low, high = _bootstrap(shares, seed, draws, confidence)
    return Rate(float(shares.mean()), low, high, float(shares.sum()), len(shares))


def pass_at_k(attempts: int, fixed: int, k: int) -> float:
    """The chance that one of `k` attempts is right, without bias (Chen et al., 2021).

    Raises:
        ValueError: There are fewer than `k` attempts, or more fixed than attempts.
    """
    if not 0 <= fixed <= attempts or not 1 <= k <= attempts:
        raise ValueError(f"pass@{k} needs {k} attempts and at most as many fixed: "
                         f"{fixed} of {attempts}")  # fmt: skip
    return 1.0 - math.comb(attempts - fixed, k) / math.comb(attempts, k)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """The two-sided p of McNemar's exact test: would a fair coin part the pairs so unevenly?"""
    pairs = only_first + only_second
    if pairs == 0:
        return 1.0
    smaller = min(only_first, only_second)
    tail = sum(math.comb(pairs, i) for i in range(smaller + 1))
    return float(min(1.0, 2 * tail / 2**pairs))


def compare(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    seed: int = 0,
    draws: int = 10_000,
    confidence: float = 0.95,
) -> Comparison:
    """What the second has over the first, on the tasks that both have a result of.

    Args:
        first: Task to its share of fixed attempts.
        second: Likewise.
        seed: Of the bootstrap.
        draws: Resamples of the tasks.
        confidence: Of the interval of the gain.

    A task counts as fixed by one of them in the pairs when more than half of its attempts are.
    """
    tasks = sorted(first.keys() & second.keys())
    before = np.array([first[task] for task in tasks], dtype=float)
    after = np.array([second[task] for task in tasks], dtype=float)
    fixed_before, fixed_after = before > 0.5, after > 0.5  # noqa: PLR2004
    only_first = int((fixed_before & ~fixed_after).sum())
    only_second = int((~fixed_before & fixed_after).sum())
    gain, low, high = 0.0, -1.0, 1.0
    if tasks:
        gain = float((after - before).mean())
        low, high = _bootstrap(after - before, seed, draws, confidence)
    return Comparison(
        len(tasks), int((fixed_before & fixed_after).sum()), only_first, only_second, gain, low,
        high, mcnemar_exact(only_first, only_second),
    )  # fmt: skip


def _bootstrap(
    values: np.ndarray[Any, np.dtype[np.float64]], seed: int, draws: int, confidence: float
) -> tuple[float, float]:
    """The percentile interval of the mean of `values`, of shape (tasks,)."""
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    means = values[picks].mean(axis=1)
    edge = 50 * (1 - confidence)
    low, high = np.percentile(means, [edge, 100 - edge])
    return float(low), float(high)
