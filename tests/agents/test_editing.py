from __future__ import annotations

import random

import pytest
import tree_sitter_python

from curricle.agents.editing import Scope, replace_once
from curricle.agents.outline import definitions, function_at, quoted_spans, silent_lines
from curricle.agents.quoting import miscopied, quote_change, too_short
from curricle.agents.refusal import Refused

SOURCE = '''\
class Codec:
    """Doc."""

    @property
    def state(self):
        """What it is.

        At length.
        """
        # nothing yet
        if not self.buffer:
            return 1
        return 10

    def other(self):
        x = "# no comment"
        return 1


def free():
    def inner():
        return 1
    return inner
'''
GRAMMAR = tree_sitter_python.language


class TestOutline:
    def test_definitions_are_qualified_and_begin_with_their_decorators(self) -> None:
        found = {d.name: (d.first_line, d.last_line) for d in definitions(SOURCE, GRAMMAR)}
        assert found == {
            "Codec": (1, 17),
            "Codec.state": (4, 13),
            "Codec.other": (15, 17),
            "free": (20, 23),
            "free.inner": (21, 22),
        }

    def test_a_line_belongs_to_its_innermost_function(self) -> None:
        found = function_at(SOURCE, GRAMMAR, 22)
        assert found is not None and found.name == "free.inner"
        assert function_at(SOURCE, GRAMMAR, 1) is None

    def test_documentation_comments_and_blank_lines_are_silent(self) -> None:
        assert silent_lines(SOURCE, GRAMMAR) == {2, 3, 6, 7, 8, 9, 10, 14, 18, 19, 24}

    def test_any_range_has_the_silent_lines_of_the_whole(self) -> None:
        whole, end = silent_lines(SOURCE, GRAMMAR), SOURCE.count("\n") + 1
        for first in range(1, end + 1):
            for last in range(first, end + 2):
                within = {line for line in whole if first <= line <= last}
                assert silent_lines(SOURCE, GRAMMAR, first, last) == within

    def test_strings_and_comments_are_quoted_spans(self) -> None:
        encoded = SOURCE.encode()
        texts = [encoded[start:end].decode() for start, end in quoted_spans(SOURCE, GRAMMAR)]
        assert texts[2:] == ["# nothing yet", '"# no comment"']


class TestReplacing:
    def test_part_of_a_line_is_replaced(self) -> None:
        replaced = replace_once(SOURCE, "not self.buffer", "self.buffer")
        assert replaced.line == 11 and "if self.buffer:" in replaced.text

    def test_the_only_whole_line_wins_over_parts_of_others(self) -> None:
        assert replace_once(SOURCE, "return 1", "return 0", Scope(4, 13)).line == 12

    def test_space_is_forgiven_and_indentation_kept(self) -> None:
        replaced = replace_once(SOURCE, "if  not self.buffer:\n    return 1", "return 2")
        assert "        return 2\n        return 10" in replaced.text

    def test_an_added_line_is_indented_as_the_first(self) -> None:
        replaced = replace_once(SOURCE, "return 10", "x = 1\nreturn x")
        assert "        x = 1\n        return x\n" in replaced.text

    def test_lines_that_were_not_shown_may_stand_between(self) -> None:
        scope = Scope(4, 13, silent_lines(SOURCE, GRAMMAR))
        old = "    def state(self):\n        if not self.buffer:"
        replaced = replace_once(SOURCE, old, "    def state(self):\n        if self.buffer:", scope)
        assert "if self.buffer:" in replaced.text

    @pytest.mark.parametrize(
        ("old", "new", "kind", "says"),
        [
            ("return", "yield", "ambiguous", "places (lines 12, 13, 17"),
            ("if not self.bufer:", "x", "absent", "Nearest: if not self.buffer:"),
            ("quite another thing", "x", "absent", "copy it"),
            ("", "x", "empty", "quote"),
            ("return 10", "return 10", "same", "nothing would change"),
        ],
    )
    def test_what_cannot_be_done_is_refused_with_a_reason(
        self, old: str, new: str, kind: str, says: str
    ) -> None:
        with pytest.raises(Refused) as refused:
            replace_once(SOURCE, old, new)
        assert refused.value.kind == kind and says in str(refused.value)


class TestQuoting:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("return 10", "return 11"),
            ("        if not self.buffer:\n            return 1\n", ""),
            ("        return 10\n", "        y = 2\n        return 10\n"),
        ],
    )
    def test_a_quote_makes_the_change(self, old: str, new: str) -> None:
        after = SOURCE.replace(old, new, 1)
        scope = Scope(4, 13, silent_lines(SOURCE, GRAMMAR))
        quote = quote_change(SOURCE, after, scope)
        assert quote is not None
        assert replace_once(SOURCE, quote.old, quote.new, scope).text == after

    def test_lines_are_added_until_the_quote_is_unique(self) -> None:
        text = "a = 1\nb = 2\na = 1\n"
        quote = quote_change(text, "a = 1\nb = 2\na = 3\n", Scope(1, 3))
        assert quote is not None and quote.old == "b = 2\na = 1"

    def test_slips_are_refused(self) -> None:
        scope = Scope(4, 13, silent_lines(SOURCE, GRAMMAR))
        quote = quote_change(SOURCE, SOURCE.replace("return 10", "return 11"), scope)
        assert quote is not None
        for seed in range(5):
            wrong = miscopied(SOURCE, quote, scope, random.Random(seed))
            assert wrong is not None and wrong not in SOURCE
            short = too_short(SOURCE, quote, scope, random.Random(seed))
            assert short == "return"
