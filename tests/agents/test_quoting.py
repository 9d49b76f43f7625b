"""How an edit is worded."""

from __future__ import annotations

import pytest

from curricle.agents.quoting import Quote, edit_arguments, what_undoes


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("if not a:", "if a:", "too much: not"),
        ("if a:", "if not a:", "missing: not"),
        ("return None", "return use_length", "None should be use_length"),
        ("if a and b:", "if a or b:", "and should be or"),
        ("f(a, b)", "f(b, a)", "a, b should be b, a"),
        ('s == ""', 's == "x y"', '"" should be "x y"'),
        ("x <= y", "x < y", "<= should be <"),
        ("a\nb", "a\nx = 1\nb", "missing: x = 1"),
        ("return b", "return b\nx = 2", "missing: x = 2"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_that_differ(old: str, new: str, why: str) -> None:
    assert what_undoes(Quote(old, new, 1)) == why


def test_arguments_come_in_the_order_of_thinking() -> None:
    quote = Quote("a", "b", 1)
    assert list(edit_arguments(quote, explain=True)) == ["old", "why", "new"]
    assert edit_arguments(quote, explain=False) == {"old": "a", "new": "b"}
