import pytest
from textkit import indent, justify, wrap


def test_wrap_fills_lines():
    assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"]


def test_wrap_uses_the_whole_width():
    assert wrap("aaa bbb", 7) == ["aaa bbb"]
    assert wrap("aaa bbb", 6) == ["aaa", "bbb"]


def test_wrap_leaves_long_words_whole():
    assert wrap("a verylongword b", 5) == ["a", "verylongword", "b"]


def test_wrap_of_nothing():
    assert wrap("   ", 5) == []


def test_wrap_refuses_no_width():
    with pytest.raises(ValueError, match="positive"):
        wrap("text", 0)


def test_indent():
    assert indent("a\nb") == "    a\n    b"
    assert indent("a\n\nb", 2) == "  a\n\n  b"


def test_indent_can_skip_the_first_line():
    assert indent("a\nb", 1, skip_first=True) == "a\n b"


def test_justify_widens_the_left_gaps():
    assert justify(["a", "b", "c"], 8) == "a   b  c"
    assert justify(["ab", "cd"], 6) == "ab  cd"


def test_justify_one_word():
    assert justify(["a"], 3) == "a  "


def test_justify_refuses_what_does_not_fit():
    assert justify(["ab", "cd"], 5) == "ab cd"
    with pytest.raises(ValueError, match="fit"):
        justify(["ab", "cd"], 4)
