"""Prompt lookup decoding: a conversation itself says what may come next (Saxena, 2023).

An agent repeats itself: the same calls, the line that it read and now replaces. So the tokens that
followed the present two when they last stood there are read at once, as a guess; those that the
model would have said anyway are kept. Nothing is drafted by another model, and what is guessed
depends on the conversation alone.
"""

from __future__ import annotations

from collections.abc import Sequence

_PAIR = 2


class PromptLookup:
    """Where every pair of tokens of one conversation stood last."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, int], int] = {}  # a pair to the place of what followed it
        self._length = 0

    def ahead(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """Return what may follow ``tokens``: at most so many, empty where nothing is known.

        Args:
            tokens: the conversation. It only grows from call to call.
            most: tokens to return.
        """
        for place in range(max(_PAIR, self._length), len(tokens)):
            self._after[tokens[place - 2], tokens[place - 1]] = place
        self._length = len(tokens)
        if most <= 0 or len(tokens) < _PAIR:
            return ()
        found = self._after.get((tokens[-2], tokens[-1]))
        return () if found is None else tuple(tokens[found : found + most])
