"""What a rollout asks of whatever generates: turns in, completions out, many at once.

The unit is a *turn*: the tokens that a conversation gained since its last completion. So a
generator can keep each conversation's cache and read only what is new, batch whatever happens to
wait, and go on with the others while the tools of one conversation run. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Ending = Literal["stop", "length", "context", "failed"]
"""Why a completion ended: a stop token; ``max_new_tokens``; no room left in the context or the
cache; or a generator (an endpoint) that gave nothing usable."""


@dataclass(frozen=True)
class Turn:
    """What a conversation says next, and how its answer is drawn.

    Attributes:
        conversation: its name; the first turn of a new name opens it.
        tokens: the token ids appended since the last completion; for the first turn, the prompt.
            Whatever the last completion returned is already part of the conversation.
        max_new_tokens: the answer has at most so many tokens, the stop token among them.
        temperature: 0 is greedy.
        seed: with a temperature, decides the answer together with the tokens.
        messages: the whole conversation as messages, for generators that speak those.
        tools: schemas of the tools, for the same.
        unlike: answers, their stop token with them, that are not to be given (again). Where one of
            them would come, the likeliest other answer does.
    """

    conversation: str
    tokens: Sequence[int]
    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    messages: Sequence[Mapping[str, Any]] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    unlike: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Completion:
    """The answer to a turn.

    Attributes:
        conversation: whose turn it was.
        tokens: token ids as generated, with the stop token if there was one.
        ending: why it ended.
        text: the answer's text, from generators that speak text.
        message: the answer as a message, from generators that speak messages.
        error: what went wrong; only of a failed one.
        log_probabilities: of each token at temperature 1, when asked for; a record only, training
            computes its own.
        read_tokens: how many tokens the generator read for this turn.
        reused_tokens: how many more were in its cache.
        counted_tokens: the length of an answer whose tokens only the server knows.
    """

    conversation: str
    tokens: Sequence[int]
    ending: Ending
    text: str | None = None
    message: Mapping[str, Any] | None = None
    error: str = ""
    log_probabilities: Sequence[float] = ()
    read_tokens: int = 0
    reused_tokens: int = 0
    counted_tokens: int = 0

    @property
    def length(self) -> int:
        """Tokens of the answer."""
        return len(self.tokens) or self.counted_tokens


class Generator(Protocol):
    """Generates for many conversations. Used from one thread."""

    @property
    def heeds_unlike(self) -> bool:
        """Whether ``Turn.unlike`` is heeded; servers and some libraries have no way to."""

    def submit(self, turn: Turn) -> None:
        """Queue a turn; returns at once."""

    def poll(self, timeout_s: float) -> list[Completion]:
        """Work, or wait, for at most about ``timeout_s``, and return what was completed.

        A generator that computes in this process may return earlier with nothing, so that the
        caller can hand in what became ready meanwhile; one with nothing queued returns at once.
        """

    def drop(self, conversation: str) -> None:
        """Forget a conversation and free its cache; unknown names are no error."""

    def close(self) -> None:
        """Free everything."""
