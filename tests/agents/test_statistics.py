from __future__ import annotations

import pytest

from curricle.agents.statistics import (
    compare,
    mcnemar_exact,
    mean_rate,
    pass_at_k,
    wilson_rate,
)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (22, 80, 0.1892, 0.3814),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 80, 0.0270, 0.1381),
    ],
)
def test_wilson_intervals_are_the_known_ones(count: int, of: int, low: float, high: float) -> None:
    rate = wilson_rate(count, of)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=2e-4)


def test_of_nothing_nothing_is_known() -> None:
    assert (wilson_rate(0, 0).low, wilson_rate(0, 0).high) == (0.0, 1.0)
    assert (mean_rate([]).low, mean_rate([]).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no rate"):
        wilson_rate(3, 2)


def test_pass_at_k_is_unbiased() -> None:
    assert pass_at_k(8, 1, 1) == pytest.approx(1 / 8)
    assert pass_at_k(8, 1, 8) == 1.0
    assert pass_at_k(10, 3, 2) == pytest.approx(1 - (7 * 6) / (10 * 9))
    assert pass_at_k(8, 0, 8) == 0.0
    with pytest.raises(ValueError, match="needs 8 attempts"):
        pass_at_k(4, 1, 8)


def test_mcnemar_is_the_binomial_test_on_the_pairs_that_differ() -> None:
    assert mcnemar_exact(9, 2) == pytest.approx(0.0654, abs=1e-4)
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 5) == 1.0
    assert mcnemar_exact(0, 6) == pytest.approx(2 / 64)


def test_pairs_are_compared_on_common_tasks() -> None:
    first = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "only": 1.0}
    second = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}
    found = compare(first, second)
    assert (found.tasks, found.both, found.only_first, found.only_second) == (4, 1, 0, 2)
    assert found.gain == 0.5 and found.low == 0.0 and found.high == 1.0
    assert found == compare(first, second), "the bootstrap repeats"


def test_a_clear_gain_has_an_interval_above_nothing() -> None:
    first = {str(n): 0.0 for n in range(40)}
    second = {str(n): float(n % 2) for n in range(40)}
    found = compare(first, second)
    assert found.low > 0.3 and found.high < 0.7 and found.p < 1e-4


def test_an_interval_over_tasks_covers_the_mean() -> None:
    rate = mean_rate([0.0, 0.5, 1.0, 0.25] * 10)
    assert rate.low < rate.value < rate.high and rate.value == pytest.approx(0.4375)
