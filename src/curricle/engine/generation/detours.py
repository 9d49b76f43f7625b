"""Answers that are not to be given, and the likeliest other ones.

A model that was told that its answer failed mostly gives the same answer again. What it holds for
second best leaves that answer at the token where leaving it costs the least. So an answer is
generated as always; where it goes along an answer that is not to be given, the other ways are
noted with what they cost, and if it ends as that answer, generation goes back to the cheapest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Detour:
    """A beginning of another answer.

    Attributes:
        tokens: up to and with the one that leaves the way that was taken.
        log_probability: of that last token, at temperature 1.
        score: log probability of all of them.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float


class Detours:
    """The ways past the answers that are not to be given; of one turn."""

    def __init__(self, unlike: Sequence[Sequence[int]]) -> None:
        self._unlike = dict.fromkeys(tuple(answer) for answer in unlike)
        self._open: dict[tuple[int, ...], Detour] = {}
        self._scores: dict[tuple[int, ...], float] = {(): 0.0}

    def ahead(self, answer: Sequence[int]) -> tuple[int, ...]:
        """Return how an unwanted answer that begins so goes on; empty where none does."""
        at = tuple(answer)
        return next((a[len(at) :] for a in self._unlike if a[: len(at)] == at), ())

    def pass_by(self, answer: Sequence[int], token: int, logits: torch.Tensor) -> None:
        """Note what else could follow, before ``token`` does.

        Args:
            answer: what was generated so far.
            token: what is generated next.
            logits: of all tokens after ``answer``: ``(vocabulary,)``.
        """
        at = tuple(answer)
        forbidden = {a[len(at)] for a in self._unlike if len(a) > len(at) and a[: len(at)] == at}
        if not forbidden:
            return
        spoken = logits.log_softmax(0)
        # On an answer that is not to be given, every forbidden token leads on to its own detours,
        # and the likeliest of the others leaves them all.
        likeliest = spoken.topk(min(len(forbidden) + 1, len(spoken))).indices.tolist()
        best = [other for other in likeliest if other not in forbidden][:1]
        before = self._scores[at]
        for way in {*forbidden, *best, token}:
            tokens, value = (*at, way), float(spoken[way])
            self._scores[tokens] = before + value
            if way != token:
                self._open.setdefault(tokens, Detour(tokens, value, before + value))

    def instead_of(self, answer: Sequence[int]) -> Detour | None:
        """Return where to go on when an answer ended; ``None`` when it may be given.

        It may be given, too, when there is no other way left.
        """
        if tuple(answer) not in self._unlike or not self._open:
            return None
        cheapest = max(self._open.values(), key=lambda detour: detour.score)
        del self._open[cheapest.tokens]
        return cheapest
