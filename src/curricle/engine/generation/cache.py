"""The keys and values of one conversation: one tensor that grows, freed with the conversation."""

from __future__ import annotations

from dataclasses import dataclass

import torch

BLOCK = 128
"""A cache has room for a multiple of so many tokens."""


def room_for(length: int) -> int:
    """Return the tokens that a cache has room for when it must hold ``length``."""
    return -(-length // BLOCK) * BLOCK


@dataclass(frozen=True)
class CacheShape:
    """What one token costs.

    Attributes:
        layers: attention layers.
        heads: key-value heads of a layer.
        size: numbers of a head.
        dtype: type of a number.
    """

    layers: int
    heads: int
    size: int
    dtype: torch.dtype = torch.float32

    @property
    def token_bytes(self) -> int:
        """Bytes of keys and values of one token: SmolLM2-135M in float32 has 46,080."""
        return 2 * self.layers * self.heads * self.size * self.dtype.itemsize


class ConversationCache:
    """Keys and values of the tokens that were read so far.

    Attributes:
        length: how many tokens are in it.
        capacity: how many fit before it grows.
    """

    def __init__(self, shape: CacheShape, device: torch.device | None = None) -> None:
        self.shape = shape
        self.length = 0
        self._device = device
        self._store = self._allocate(0)

    def _allocate(self, capacity: int) -> torch.Tensor:
        shape = self.shape
        # (layers, key heads then value heads, capacity, size): one copy writes both.
        return torch.empty(
            shape.layers, 2 * shape.heads, capacity, shape.size,
            dtype=shape.dtype, device=self._device,
        )  # fmt: skip

    @property
    def capacity(self) -> int:
        """Tokens that fit without growing."""
        return self._store.shape[2]

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens in all."""
        if length <= self.capacity:
            return
        grown = self._allocate(room_for(length))
        grown[:, :, : self.length] = self._store[:, :, : self.length]
        self._store = grown

    def copy_prefix(self, other: ConversationCache, length: int) -> None:
        """Start with the first ``length`` tokens of another conversation."""
        self.reserve(length)
        self._store[:, :, :length] = other._store[:, :, :length]
        self.length = length

    def truncate(self, length: int) -> None:
        """Forget what stands after the first ``length`` tokens."""
        assert length <= self.length, f"{self.length} tokens are in it, not {length}"
        self.length = length

    def append(self, count: int) -> tuple[torch.Tensor, ...]:
        """Count ``count`` more tokens, and return per layer where they are to be written.

        Each is a view ``(2 * heads, count, size)``.
        """
        self.reserve(self.length + count)
        start, self.length = self.length, self.length + count
        return self._store[:, :, start : self.length].unbind(0)

    def keys(self, end: int) -> tuple[torch.Tensor, ...]:
        """Return, per layer, the keys of the first ``end`` tokens: ``(heads, end, size)``."""
        return self._store[:, : self.shape.heads, :end].unbind(0)

    def values(self, end: int) -> tuple[torch.Tensor, ...]:
        """Return, per layer, the values of the first ``end`` tokens: ``(heads, end, size)``."""
        return self._store[:, self.shape.heads :, :end].unbind(0)
