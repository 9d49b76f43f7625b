"""Best-fit-decreasing packing of pieces into rows, window by window.

After Ding et al. 2024, "Fewer Truncations Improve Language Modeling" (arXiv 2404.10830). Windows
are bounded, so memory is; rows that a window cannot fill wait for the smaller pieces of the next.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from curricle.pipelines.corpus.rows import RowWriter

Tokens: TypeAlias = npt.NDArray[np.int32]
"""The tokens of a document or of a piece of one, shape (tokens,)."""

# Rows this full are written; emptier ones wait for smaller pieces.
_FULL = 0.999
# At most this share of a window waits, so that documents of unlucky lengths cannot pile up.
_WAITING_SHARE = 0.5
# A window of a few rows cannot be packed well, however long rows are.
_FEWEST_ROWS = 64


@dataclass
class Row:
    """A row that is being filled: its pieces, and the slots that are left."""

    free: int
    pieces: list[Tokens]


def best_fit_decreasing(pieces: list[Tokens], seq_length: int) -> list[Row]:
    """Pack pieces, longest first, each into the fullest row that has room for it.

    Args:
        pieces: each at most `seq_length` long.
        seq_length: tokens in a row.

    Returns:
        Rows with their pieces and free slots; pieces of equal length keep their order.
    """
    rows: list[Row] = []
    rooms: list[tuple[int, int]] = []  # sorted (free, row)
    for piece in sorted(pieces, key=len, reverse=True):
        place = bisect_left(rooms, (len(piece), -1))
        if place == len(rooms):
            number = len(rows)
            rows.append(Row(seq_length - len(piece), [piece]))
        else:
            number = rooms.pop(place)[1]
            rows[number].pieces.append(piece)
            rows[number].free -= len(piece)
        if rows[number].free:
            insort(rooms, (rows[number].free, number))
    return rows


class Packer:
    """Collects the documents of one array and writes them row by row.

    Args:
        writer: takes the rows.
        window_tokens: tokens that wait at most to be packed together.
    """

    def __init__(self, writer: RowWriter, window_tokens: int) -> None:
        self.documents = self.tokens = 0
        self._writer = writer
        self._capacity = max(window_tokens, _FEWEST_ROWS * writer.seq_length)
        self._waiting: list[Tokens] = []
        self._waiting_tokens = 0

    def add(self, tokens: Tokens) -> None:
        """Take a document: whole rows are written, the rest waits for its window."""
        self.documents += 1
        self.tokens += len(tokens)
        length = self._writer.seq_length
        for start in range(0, len(tokens), length):
            piece = tokens[start : start + length]
            if len(piece) == length:
                self._writer.write([piece])
            else:
                # A view would keep the whole document alive for its last tokens.
                self._waiting.append(piece.copy())
                self._waiting_tokens += len(piece)
        if self._waiting_tokens >= self._capacity:
            self._flush(keep_tokens=int(self._capacity * _WAITING_SHARE))

    def finish(self, seed: int) -> None:
        """Write all that waits and end the array, its rows in an order drawn from `seed`."""
        self._flush(keep_tokens=0)
        self._writer.finish(seed)

    def report(self) -> dict[str, int | float]:
        """Documents, pieces, tokens, rows, and fill (tokens per slot, 0 to 1)."""
        assert self._writer.tokens == self.tokens, "packing neither loses nor invents tokens"
        return {
            "documents": self.documents,
            "pieces": self._writer.segments,
            "tokens": self.tokens,
            "rows": self._writer.rows,
            "fill": self._writer.fill,
        }

    def _flush(self, keep_tokens: int) -> None:
        """Write packed rows, but let the emptiest wait while they hold few tokens together."""
        length = self._writer.seq_length
        rows = best_fit_decreasing(self._waiting, length)
        rows.sort(key=lambda row: row.free, reverse=True)
        self._waiting, self._waiting_tokens = [], 0
        for row in rows:
            used = length - row.free
            if used < _FULL * length and self._waiting_tokens + used <= keep_tokens:
                self._waiting.extend(row.pieces)
                self._waiting_tokens += used
            else:
                self._writer.write(row.pieces)
