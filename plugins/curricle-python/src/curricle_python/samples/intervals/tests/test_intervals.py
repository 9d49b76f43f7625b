import pytest
from intervals import gaps, index_of, merge, overlap, parse, total_length


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 2), (1, 3), True),
        ((0, 2), (2, 3), False),
        ((5, 9), (0, 6), True),
        ((5, 9), (0, 5), False),
        ((0, 9), (3, 4), True),
    ],
)
def test_overlap(first, second, expected):
    assert overlap(first, second) is expected
    assert overlap(second, first) is expected


def test_merge_joins_neighbours():
    assert merge([(3, 5), (0, 1), (1, 2)]) == [(0, 2), (3, 5)]


def test_merge_keeps_the_longer_end():
    assert merge([(0, 9), (1, 2)]) == [(0, 9)]


def test_merge_drops_empty_intervals():
    assert merge([(2, 2), (5, 3)]) == []


def test_total_length_counts_each_number_once():
    assert total_length([(0, 3), (2, 5), (9, 10)]) == 6
    assert total_length([]) == 0


def test_gaps():
    assert gaps([(2, 3), (5, 6)], (0, 8)) == [(0, 2), (3, 5), (6, 8)]
    assert gaps([], (0, 4)) == [(0, 4)]
    assert gaps([(-1, 2), (4, 9)], (0, 6)) == [(2, 4)]


def test_nothing_is_free_when_all_is_covered():
    assert gaps([(0, 9)], (2, 5)) == []


@pytest.mark.parametrize("number", range(-1, 12))
def test_index_of_agrees_with_looking_at_each(number):
    intervals = [(0, 2), (4, 5), (7, 10)]
    expected = [i for i, (start, end) in enumerate(intervals) if start <= number < end]
    assert index_of(intervals, number) == (expected[0] if expected else -1)


def test_index_of_in_nothing():
    assert index_of([], 3) == -1


def test_parse():
    assert parse("1-3, 7") == [(1, 4), (7, 8)]
    assert parse("4,3") == [(3, 5)]
    assert parse("") == []


@pytest.mark.parametrize("text", ["3-1", "x", "2-"])
def test_parse_refuses_what_it_cannot_read(text):
    with pytest.raises(ValueError):
        parse(text)
