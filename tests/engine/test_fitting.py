"""Rows that are full, and samples that are never cut or lost."""

from __future__ import annotations

import random

import pytest

from curricle.engine.fitting import fit_rows


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_is_in_exactly_one_row_that_holds_it(seed: int) -> None:
    chance = random.Random(seed)
    lengths = [chance.randint(1, 64) for _ in range(chance.randint(1, 200))]
    rows = fit_rows(lengths, 64)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= 64 for row in rows)


def test_conversations_fill_their_rows_to_99_per_cent() -> None:
    chance = random.Random(0)
    lengths = [min(320, max(20, int(chance.lognormvariate(4.4, 0.5)))) for _ in range(4000)]
    rows = fit_rows(lengths, 512)
    assert sum(lengths) / (512 * len(rows)) >= 0.99


def test_an_exact_fill_is_found_where_best_fit_decreasing_misses_it() -> None:
    # Best fit decreasing puts 5 with 4 and strands a 3; both rows of 10 can be full.
    assert len(fit_rows([5, 4, 3, 3, 3, 2], 10)) == 2


def test_the_same_lengths_give_the_same_rows() -> None:
    lengths = [random.Random(1).randint(1, 50) for _ in range(100)]
    assert fit_rows(lengths, 64) == fit_rows(lengths, 64)


def test_nothing_makes_no_rows() -> None:
    assert fit_rows([], 64) == []
