import pytest
from ledger import (
    balance,
    format_amount,
    largest,
    overdrawn,
    parse_amount,
    running_totals,
    split_evenly,
    transfer,
)

ENTRIES = [("rent", -500), ("food", -120), ("food", 200), ("pay", 900), ("rent", 100)]


@pytest.mark.parametrize(
    ("account", "total"), [("rent", -400), ("food", 80), ("pay", 900), ("none", 0)]
)
def test_balance(account, total):
    assert balance(ENTRIES, account) == total


def test_overdrawn():
    assert overdrawn(ENTRIES) == ["rent"]
    assert overdrawn([("even", 5), ("even", -5), ("b", -1), ("a", -1)]) == ["a", "b"]


@pytest.mark.parametrize(
    ("amount", "people", "shares"),
    [(10, 2, [5, 5]), (10, 3, [4, 3, 3]), (11, 3, [4, 4, 3]), (0, 2, [0, 0]), (5, 1, [5])],
)
def test_split_evenly(amount, people, shares):
    assert split_evenly(amount, people) == shares


def test_split_evenly_among_nobody():
    with pytest.raises(ValueError):
        split_evenly(10, 0)


@pytest.mark.parametrize(
    ("cents", "text"),
    [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (1205, "12.05"), (-1250, "-12.50"), (100, "1.00")],
)
def test_format_and_parse(cents, text):
    assert format_amount(cents) == text
    assert parse_amount(text) == cents


@pytest.mark.parametrize(("text", "cents"), [("12", 1200), ("12.5", 1250), ("-3", -300)])
def test_parse_short_amounts(text, cents):
    assert parse_amount(text) == cents


@pytest.mark.parametrize("text", ["", "-", "1.234", "1.x", "x"])
def test_parse_refuses(text):
    with pytest.raises(ValueError):
        parse_amount(text)


def test_running_totals():
    assert running_totals([1, 2, -3]) == [1, 3, 0]
    assert running_totals([1, 2], start=10) == [11, 13]
    assert running_totals([]) == []


def test_largest():
    assert largest(ENTRIES, 2) == [("pay", 900), ("rent", -500)]
    assert largest(ENTRIES, 0) == []
    assert largest(ENTRIES, -1) == []
    assert largest([("a", 1), ("b", -1)], 1) == [("a", 1)]


def test_transfer():
    moved = transfer(ENTRIES, "pay", "rent", 400)
    assert balance(moved, "pay") == 500
    assert balance(moved, "rent") == 0
    assert transfer(ENTRIES, "food", "rent", 80)[-1] == ("rent", 80)


@pytest.mark.parametrize(
    ("source", "target", "amount"),
    [("pay", "pay", 1), ("pay", "food", 0), ("pay", "food", -1), ("food", "pay", 81)],
)
def test_transfer_refuses(source, target, amount):
    with pytest.raises(ValueError):
        transfer(ENTRIES, source, target, amount)
