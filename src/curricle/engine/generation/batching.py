"""Continuous batching: every step reads or decodes for all conversations that have a turn.

A conversation joins the batch when its turn comes in and leaves it with its completion, so tools of
one run while the others go on. Its cache stays between its turns: a turn reads only what is new.
Prompts that begin alike (the same system prompt, the attempts of one group) are read once.

Memory: the caches of all conversations together have room for at most ``cache_tokens`` tokens of
``CacheShape.token_bytes`` each. When they would not fit, the conversations that wait longest for
their tools are forgotten first (their next turn reads them again), then turns wait for others.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from curricle.agents.generator import Completion, Ending, Turn
from curricle.engine.generation.cache import BLOCK, ConversationCache, room_for
from curricle.engine.generation.detours import Detours
from curricle.engine.generation.lookup import PromptLookup
from curricle.engine.generation.ragged import ATTENTION_BLOCK, Decoder, Piece
from curricle.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass
class _Answer:
    """A turn in progress."""

    turn: Turn
    limit: int  # tokens that the conversation may have at the end of this answer
    read: int
    reused: int
    draw: random.Random
    tokens: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    detours: Detours | None = None  # where there are answers that are not to be given


@dataclass
class _Conversation:
    """Everything known of a conversation; the cache may hold less than its tokens."""

    cache: ConversationCache
    tokens: list[int] = field(default_factory=list)
    prompt_length: int = 0  # of its first turn: read in blocks, so others may copy it exactly
    lookup: PromptLookup = field(default_factory=PromptLookup)


class BatchedGenerator:
    """Generates in this process, with a cache for each conversation.

    Greedy answers, and with a seed drawn ones, depend on the conversation alone and not on what is
    generated beside it: to the last bit where ``curricle.engine.generation.linear`` holds. One
    exception: a conversation that was forgotten and read again may differ in the last bits.
    """

    def __init__(
        self,
        decoder: Decoder,
        stop_tokens: Collection[int],
        batch_size: int = 16,
        cache_tokens: int = 65_536,
        prefill_tokens: int = 1024,
        lookup_tokens: int = 0,
        log_probabilities: bool = False,
    ) -> None:
        """Set up.

        Args:
            decoder: the model.
            stop_tokens: ids that end an answer.
            batch_size: conversations that generate at the same time; more wait their turn.
            cache_tokens: tokens of all caches together.
            prefill_tokens: tokens of prompts read in one step; bounds the memory of a step.
            lookup_tokens: tokens guessed from a conversation itself and read at once; 0 for none.
            log_probabilities: whether completions carry them.
        """
        self._decoder = decoder
        self._stop = frozenset(stop_tokens)
        self._batch_size = batch_size
        self._cache_tokens = cache_tokens // BLOCK * BLOCK
        self._prefill_tokens = max(prefill_tokens, ATTENTION_BLOCK)
        self._lookup_tokens = lookup_tokens
        self._with_log_probabilities = log_probabilities
        self._conversations: dict[str, _Conversation] = {}  # least recently finished first
        self._waiting: dict[str, Turn] = {}
        self._running: dict[str, _Answer] = {}

    @property
    def heeds_unlike(self) -> bool:
        """See :class:`curricle.agents.generator.Generator`."""
        return True

    @property
    def cached_tokens(self) -> int:
        """Tokens that the caches have room for at present."""
        return sum(entry.cache.capacity for entry in self._conversations.values())

    def submit(self, turn: Turn) -> None:
        """See :class:`curricle.agents.generator.Generator`."""
        if turn.conversation in self._running or turn.conversation in self._waiting:
            raise ValueError(f"{turn.conversation} already has a turn in progress")
        known = turn.conversation in self._conversations
        if not turn.tokens and not known:
            raise ConfigError(f"{turn.conversation}: the first turn of a conversation is empty")
        self._waiting[turn.conversation] = turn

    def drop(self, conversation: str) -> None:
        """See :class:`curricle.agents.generator.Generator`."""
        self._running.pop(conversation, None)
        self._conversations.pop(conversation, None)
        self._waiting.pop(conversation, None)

    def close(self) -> None:
        """Forget every conversation."""
        self._waiting.clear()
        self._running.clear()
        self._conversations.clear()

    def replace_model(self, decoder: Decoder) -> None:
        """Go on with other weights, as between two optimizer steps; forgets every conversation."""
        self.close()
        self._decoder = decoder

    def poll(self, timeout_s: float) -> list[Completion]:
        """Take one step, whatever the timeout: see :class:`curricle.agents.generator.Generator`."""
        completed = self._admit()
        if self._running:
            completed += self._step()
        return completed

    # Admission

    def _admit(self) -> list[Completion]:
        """Start the turns that there is room for; refuse those that there can never be room for."""
        refused: list[Completion] = []
        room = min(self._decoder.max_context, self._cache_tokens)
        for name, turn in list(self._waiting.items()):
            if len(self._running) >= self._batch_size:
                break
            known = self._conversations.get(name)
            tokens = [*(known.tokens if known else ()), *turn.tokens]
            if len(tokens) >= room:
                del self._waiting[name]
                refused.append(Completion(name, (), "context"))
                continue
            limit = min(room, len(tokens) + turn.max_new_tokens)
            source, shared = self._longest_prefix(name, tokens)
            if source is not None and source.cache.length < shared:
                continue  # it is being read right now: copied when that is done
            if not self._make_room(name, limit, source):
                source, shared = None, 0
                if not self._make_room(name, limit, None):
                    break
            del self._waiting[name]
            self._start(turn, tokens, limit, source, shared)
        return refused

    def _start(
        self,
        turn: Turn,
        tokens: list[int],
        limit: int,
        source: _Conversation | None,
        shared: int,
    ) -> None:
        entry = self._conversations.pop(turn.conversation, None)
        if entry is None:
            entry = _Conversation(self._decoder.new_cache(), prompt_length=len(tokens))
        if source is not None and shared > entry.cache.length:
            entry.cache.copy_prefix(source.cache, shared)
        entry.cache.reserve(limit)
        entry.tokens = tokens
        self._conversations[turn.conversation] = entry
        self._running[turn.conversation] = _Answer(
            turn, limit,
            read=len(tokens) - entry.cache.length,
            reused=entry.cache.length,
            draw=random.Random(f"{turn.seed} {len(tokens)}"),
            detours=Detours(turn.unlike) if turn.unlike else None,
        )  # fmt: skip

    def _longest_prefix(self, name: str, tokens: Sequence[int]) -> tuple[_Conversation | None, int]:
        """Find a conversation whose prompt begins like ``tokens``, and for how many tokens.

        Only for conversations with nothing in their own cache, and in whole blocks: a copied block
        then equals the one that would have been computed.
        """
        own = self._conversations.get(name)
        if own is not None and own.cache.length:
            return None, 0
        best: tuple[_Conversation | None, int] = (None, 0)
        if len(tokens) <= ATTENTION_BLOCK:
            return best
        for key, other in self._conversations.items():
            readable = min(other.prompt_length, len(tokens) - 1)
            if other is own or not (other.cache.length or key in self._running):
                continue
            shared = 0
            while (end := shared + ATTENTION_BLOCK) <= readable:
                if list(tokens[shared:end]) != other.tokens[shared:end]:
                    break
                shared = end
            if shared > best[1]:
                best = (other, shared)
        return best

    def _make_room(self, name: str, limit: int, source: _Conversation | None) -> bool:
        """Forget idle conversations until one may have ``limit`` tokens; ``source`` stays."""
        own = self._conversations.get(name)
        excess = self.cached_tokens + room_for(limit) - self._cache_tokens
        excess -= own.cache.capacity if own else 0
        victims = []
        for key, other in self._conversations.items():
            if excess <= 0:
                break
            if key != name and key not in self._running and other is not source:
                victims.append(other)
                excess -= other.cache.capacity
        if excess > 0:
            return False
        for victim in victims:
            victim.cache = self._decoder.new_cache()
        if victims:
            logger.debug("generation: %d waiting conversations lost their caches", len(victims))
        return True

    # Steps

    def _step(self) -> list[Completion]:
        """Read what is unread, within the budget, and decode one token of all others."""
        pieces: list[Piece] = []
        deciding: list[tuple[str, tuple[int, ...]]] = []
        budget = self._prefill_tokens
        for name, answer in self._running.items():
            entry = self._conversations[name]
            start, end = entry.cache.length, len(entry.tokens)
            if end - start > 1:
                if end - start > budget:
                    end = max(start, (start + budget) // ATTENTION_BLOCK * ATTENTION_BLOCK)
                budget -= end - start
            if end > start:
                tokens = entry.tokens[start:end]
                if end < len(entry.tokens):
                    pieces.append(Piece(entry.cache, tokens, wanted=0))
                    continue
                ahead = self._ahead(answer, entry, answer.limit - end - 1)
                pieces.append(Piece(entry.cache, [*tokens, *ahead], wanted=1 + len(ahead)))
                deciding.append((name, ahead))
        logits = self._decoder.forward(pieces)
        rows = iter(torch.split(logits, [1 + len(ahead) for _, ahead in deciding]))
        completed = []
        for name, ahead in deciding:
            if ending := self._go_on(name, ahead, next(rows)):
                completed.append(self._complete(name, ending))
        return completed

    def _ahead(self, answer: _Answer, entry: _Conversation, room: int) -> tuple[int, ...]:
        """Return what an answer is likely to say next: read at once, to compare.

        On an unwanted answer, the rest of it; elsewhere what the conversation itself suggests.
        Never less for what is read beside it: the last bits of a pass depend on its rows.
        """
        most = min(room, answer.turn.max_new_tokens - len(answer.tokens) - 1)
        unwanted = answer.detours.ahead(answer.tokens)[:-1] if answer.detours is not None else ()
        if unwanted:
            return unwanted[: max(0, most)]
        return entry.lookup.ahead(entry.tokens, min(most, self._lookup_tokens))

    def _go_on(self, name: str, ahead: Sequence[int], logits: torch.Tensor) -> Ending | None:
        """Take tokens as long as they are those that were read ahead, and one more.

        Args:
            name: of the conversation.
            ahead: tokens in the cache that the answer may not say.
            logits: before each of them and after the last: ``(1 + ahead, vocabulary)``.
        """
        answer, entry = self._running[name], self._conversations[name]
        for place, row in enumerate(logits):
            token = self._choose(row, answer)
            if answer.detours is not None:
                answer.detours.pass_by(answer.tokens, token, row)
            answer.tokens.append(token)
            entry.tokens.append(token)
            ending = self._ending(answer, len(entry.tokens), token)
            if ending or place == len(ahead) or token != ahead[place]:
                break
        while ending and self._turned_back(answer, entry):
            ending = self._ending(answer, len(entry.tokens), answer.tokens[-1])
        # The last token is read by the next step.
        entry.cache.truncate(min(entry.cache.length, len(entry.tokens) - 1))
        return ending

    def _turned_back(self, answer: _Answer, entry: _Conversation) -> bool:
        """Whether an answer is not to be given, and was left at the likeliest place for another."""
        if answer.detours is None:
            return False
        detour = answer.detours.instead_of(answer.tokens)
        if detour is None:
            return False
        beginning = len(entry.tokens) - len(answer.tokens)
        answer.tokens = list(detour.tokens)
        kept = len(detour.tokens) - 1
        if self._with_log_probabilities:
            answer.log_probabilities[kept:] = [detour.log_probability]
        entry.tokens[beginning:] = detour.tokens
        entry.lookup = PromptLookup()
        return True

    def _ending(self, answer: _Answer, length: int, token: int) -> Ending | None:
        if token in self._stop:
            return "stop"
        if len(answer.tokens) >= answer.turn.max_new_tokens:
            return "length"
        return "context" if length >= answer.limit else None

    def _complete(self, name: str, ending: Ending) -> Completion:
        answer = self._running.pop(name)
        self._conversations[name] = self._conversations.pop(name)  # now the youngest
        return Completion(
            name,
            tuple(answer.tokens),
            ending,
            log_probabilities=tuple(answer.log_probabilities),
            read_tokens=answer.read,
            reused_tokens=answer.reused,
        )

    def _choose(self, logits: torch.Tensor, answer: _Answer) -> int:
        """Take the likeliest token of ``(vocabulary,)`` logits, or draw one."""
        chosen = int(logits.argmax())
        if answer.turn.temperature > 0:
            shares = (logits / answer.turn.temperature).softmax(0).double().cumsum(0)
            # The last share is one but for rounding; scaling keeps the search inside.
            point = shares[-1] * answer.draw.random()
            chosen = min(int(torch.searchsorted(shares, point, right=True)), len(logits) - 1)
        if self._with_log_probabilities:
            answer.log_probabilities.append(float(logits.log_softmax(0)[chosen]))
        return chosen
