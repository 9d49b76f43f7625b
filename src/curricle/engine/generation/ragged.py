"""Ragged attention: new tokens of many conversations as one block of rows, without padding.

A forward pass takes *pieces*: the new tokens of each conversation, be it a prompt or the one token
decoded last. They are laid end to end, so every matrix product sees all of them, and each
conversation attends to its own cache only. Nothing that one conversation computes depends on what
is packed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch.nn import functional

from curricle.engine.generation.cache import ConversationCache
from curricle.engine.generation.linear import MIN_ROWS, one_thread

ATTENTION_BLOCK = 64
"""Queries of a prompt are attended in blocks that end at multiples of this position: a block's
arithmetic is the same whichever conversation computed it, and no key after it is read."""


@dataclass(frozen=True)
class Piece:
    """New tokens of one conversation.

    Attributes:
        cache: the conversation's cache, with room for them; a forward pass fills it.
        tokens: their ids, at least one.
        wanted: after how many of them, the last ones, the logits are needed.
    """

    cache: ConversationCache
    tokens: Sequence[int]
    wanted: int = 1


class Decoder(Protocol):
    """A model as generation sees it.

    Attributes:
        max_context: tokens that a conversation may have at most.
    """

    max_context: int

    def new_cache(self) -> ConversationCache:
        """Return the empty cache of a new conversation."""

    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Read the pieces into their caches.

        Returns:
            float32 logits after the tokens that want them, in order: ``(wanted, vocabulary)``.
        """


@dataclass(frozen=True)
class _Block:
    """Queries that share their keys.

    Attributes:
        rows: where the queries stand among the packed rows.
        first: position of the first query in its conversation; the keys before
            ``first + queries`` are in the views.
        keys: per layer, ``(heads, keys, size)``.
        values: the same of the values.
        masks: by window; made when first asked for.
    """

    rows: slice
    first: int
    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    masks: dict[int | None, torch.Tensor | None] = field(default_factory=dict)

    def mask(self, group: int, window: int | None) -> torch.Tensor | None:
        """Return what is added to the scores, ``(group * queries, keys)``; ``None`` for nothing."""
        if window not in self.masks:
            self.masks[window] = self._make_mask(group, window)
        return self.masks[window]

    def _make_mask(self, group: int, window: int | None) -> torch.Tensor | None:
        queries = self.rows.stop - self.rows.start
        end = self.first + queries
        if queries == 1 and (window is None or end <= window):
            return None
        key = self.keys[0]
        distance = (
            torch.arange(self.first, end, device=key.device)[:, None]
            - torch.arange(end, device=key.device)[None]
        )
        hidden = distance < 0
        if window is not None:
            hidden |= distance >= window
        zeros = torch.zeros(queries, end, dtype=key.dtype, device=key.device)
        return zeros.masked_fill_(hidden, float("-inf")).repeat(group, 1)


@dataclass(frozen=True)
class Plan:
    """One forward pass, laid out.

    Attributes:
        tokens: ids of all rows, padded to a few: ``(rows,)``.
        positions: of each row in its conversation: ``(rows,)``.
        last: rows whose logits are wanted.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    last: list[int]
    _blocks: list[_Block]
    _targets: list[tuple[slice, tuple[torch.Tensor, ...]]]

    def attend(
        self,
        layer: int,
        queries: torch.Tensor,
        keys_values: torch.Tensor,
        scale: float | None = None,
        window: int | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Write a layer's new keys and values into the caches, and attend.

        Args:
            layer: its number.
            queries: rotated, ``(rows, heads, size)``.
            keys_values: rotated keys, then values, ``(rows, 2 * key heads, size)``.
            scale: of the scores; ``None`` for one over the root of the size.
            window: a query sees so many keys, its own among them; ``None`` for all.
            sinks: a score per head that takes its share of the softmax and gives nothing.

        Returns:
            ``(rows, heads, size)``; zeros in padding.
        """
        for rows, target in self._targets:
            target[layer].copy_(keys_values[rows].transpose(0, 1))
        _, heads, size = queries.shape
        kv_heads = keys_values.shape[1] // 2
        group = heads // kv_heads
        mixed = queries.new_zeros(queries.shape)
        for block in self._blocks:
            count = block.rows.stop - block.rows.start
            # Query heads that share a key head become rows of one query: no key is repeated.
            grouped = queries[block.rows].view(count, kv_heads, group, size).permute(1, 2, 0, 3)
            # The same number of threads whatever is packed beside it: their sums differ.
            with one_thread(count == 1):
                attended = _attend_block(
                    grouped.reshape(kv_heads, group * count, size),
                    block.keys[layer],
                    block.values[layer],
                    block.mask(group, window),
                    scale,
                    None if sinks is None else sinks.view(kv_heads, group, 1).expand(-1, -1, count),
                ).view(kv_heads, group, count, size)
            mixed[block.rows] = attended.permute(2, 0, 1, 3).reshape(count, heads, size)
        return mixed


def _attend_block(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Attend ``(heads, queries, size)`` to ``(heads, keys, size)``."""
    if sinks is None:
        return functional.scaled_dot_product_attention(
            queries[None], keys[None], values[None], attn_mask=mask, scale=scale
        )[0]
    scores = queries @ keys.transpose(1, 2) * (scale or queries.shape[-1] ** -0.5)
    if mask is not None:
        scores = scores + mask
    sink = sinks.reshape(*scores.shape[:2], 1).to(scores.dtype)
    shares = torch.cat((scores, sink), dim=-1).softmax(-1, dtype=torch.float32)
    return shares[..., :-1].to(values.dtype) @ values


def lay_out(pieces: Sequence[Piece], device: torch.device) -> Plan:
    """Lay the pieces end to end and count their tokens into the caches."""
    tokens: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    blocks: list[_Block] = []
    targets: list[tuple[slice, tuple[torch.Tensor, ...]]] = []
    for piece in pieces:
        cache, count = piece.cache, len(piece.tokens)
        start, row = cache.length, len(tokens)
        end = start + count
        targets.append((slice(row, row + count), cache.append(count)))
        tokens.extend(piece.tokens)
        positions.extend(range(start, end))
        last.extend(range(row + count - piece.wanted, row + count))
        first = start
        while first < end:
            stop = min(end, (first // ATTENTION_BLOCK + 1) * ATTENTION_BLOCK)
            rows = slice(row + first - start, row + stop - start)
            blocks.append(_Block(rows, first, cache.keys(stop), cache.values(stop)))
            first = stop
    padding = max(0, MIN_ROWS - len(tokens))
    return Plan(
        torch.tensor(tokens + [0] * padding, device=device),
        torch.tensor(positions + [0] * padding, device=device),
        last,
        blocks,
        targets,
    )
