"""Packed rows as a trainer reads them: ids, positions that restart, labels that stay inside.

Our own arrays name their segments in a sidecar. An array from elsewhere has none; then these rules
hold:

- A segment ends after each end-of-text token and at the end of its row.
- Padding is the run of `pad_id` at the end of a row. Where `pad_id` is the end-of-text token, every
  end-of-text token directly after another is padding. Without `pad_id` nothing is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curricle.errors import DataError
from curricle.pipelines.corpus.rows import segments_path

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

IGNORED = -100  # the label that cross entropy skips (torch's ignore_index)

_MATRIX = 2
_SEGMENT_FIELDS = 3
_CHECK_TOKENS = 1 << 22


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows ready for a model with causal shift; each array is int64 (batch, seq)."""

    input_ids: Int64s
    """Token ids; padding holds the pad id."""
    position_ids: Int64s
    """Positions, from 0 in each segment and in each run of padding."""
    labels: Int64s
    """`input_ids`, but -100 at padding and at the first token of a segment: nothing inside its
    document predicts it."""


@dataclass(frozen=True, eq=False)
class PackedArray:
    """Rows of token ids on disk, memory-mapped. Open one with `PackedArray.open`."""

    path: Path
    tokens: npt.NDArray[Any]
    """(rows, seq), any integer type, memory-mapped."""
    eos_id: int
    pad_id: int | None
    segments: npt.NDArray[np.int32] | None
    """(pieces, 3) sorted (row, start, length); None for an array from elsewhere."""
    _bounds: Int64s | None
    """Where the segments of each row begin in `segments`; (rows + 1,)."""

    @classmethod
    def open(cls, path: Path, *, eos_id: int, pad_id: int | None = None) -> "PackedArray":
        """Open a .npy file of shape (rows, seq), with its sidecar where there is one.

        Args:
            path: the array.
            eos_id: the end-of-text token, which ends documents in arrays without a sidecar.
            pad_id: the padding token, for arrays without a sidecar (see the module).

        Raises:
            DataError: no such file, not a .npy file, not integers, not two-dimensional, empty, or
                a sidecar of other rows.
        """
        tokens = _load(path)
        if tokens.ndim != _MATRIX:
            raise DataError(
                f"{path}: shape {tokens.shape}, but rows of tokens are (rows, seq_length). "
                "Reshape the array."
            )
        if not np.issubdtype(tokens.dtype, np.integer):
            raise DataError(
                f"{path}: dtype {tokens.dtype}, but token ids are integers. "
                "Save it with .astype(numpy.int64)."
            )
        if not tokens.size:
            raise DataError(f"{path}: shape {tokens.shape} holds no tokens. Write it again.")
        segments = bounds = None
        sidecar = segments_path(path)
        if sidecar.is_file():
            segments = _load(sidecar)
            _check_segments(sidecar, segments, tokens.shape)
            bounds = np.searchsorted(segments[:, 0], np.arange(len(tokens) + 1))
        return cls(path, tokens, eos_id, pad_id, segments, bounds)

    def __len__(self) -> int:
        """Rows."""
        return len(self.tokens)

    @property
    def seq_length(self) -> int:
        """Tokens in a row."""
        return int(self.tokens.shape[1])

    def rows(self, indices: npt.ArrayLike) -> Batch:
        """Read rows in the given order.

        Args:
            indices: row numbers, shape (batch,).
        """
        rows = np.asarray(indices, dtype=np.int64)
        ids = np.asarray(self.tokens[rows], dtype=np.int64)  # (batch, seq)
        starts, padding = self._from_sidecar(rows) if self.segments is not None else self._scan(ids)
        starts[:, 0] = True
        columns = np.arange(self.seq_length)
        begun = np.maximum.accumulate(np.where(starts, columns, 0), axis=1)
        labels = np.where(starts | padding, IGNORED, ids)
        return Batch(input_ids=ids, position_ids=columns - begun, labels=labels)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Make sure that every id is below `vocab_size`, a few megabytes at a time.

        Raises:
            DataError: names the row and the id.
        """
        step = max(1, _CHECK_TOKENS // self.seq_length)
        for first in range(0, len(self), step):
            block = self.tokens[first : first + step]
            if block.max() < vocab_size and block.min() >= 0:
                continue
            row, column = np.argwhere((block >= vocab_size) | (block < 0))[0]
            raise DataError(
                f"{self.path}: row {first + row} holds token {block[row, column]}, outside the "
                f"vocabulary of {vocab_size}. Pack the corpus with the tokenizer of the model, or "
                "enlarge the model's vocabulary."
            )

    def _from_sidecar(self, rows: Int64s) -> tuple[Bools, Bools]:
        """First tokens of segments and of padding, and padding itself; (batch, seq) each."""
        assert self.segments is not None and self._bounds is not None
        starts = np.zeros((len(rows), self.seq_length), dtype=bool)
        padding = np.ones_like(starts)
        for place, row in enumerate(rows % len(self)):
            for _, start, length in self.segments[self._bounds[row] : self._bounds[row + 1]]:
                starts[place, start] = True
                padding[place, start : start + length] = False
        starts[:, 1:] |= padding[:, 1:] & ~padding[:, :-1]
        return starts, padding

    def _scan(self, ids: Int64s) -> tuple[Bools, Bools]:
        """The same for an array without a sidecar."""
        ended = np.zeros(ids.shape, dtype=bool)
        ended[:, 1:] = ids[:, :-1] == self.eos_id
        if self.pad_id is None:
            padding = np.zeros(ids.shape, dtype=bool)
        elif self.pad_id == self.eos_id:
            padding = ended & (ids == self.eos_id)
        else:
            is_pad = ids == self.pad_id
            padding = np.logical_and.accumulate(is_pad[:, ::-1], axis=1)[:, ::-1]
        starts = ended & ~padding
        starts[:, 1:] |= padding[:, 1:] & ~padding[:, :-1]
        return starts, padding


def _load(path: Path) -> npt.NDArray[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file. Run the corpus pipeline, or correct the path.")
    try:
        loaded: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a .npy file of numbers ({error}). Write it again.") from None
    return loaded


def _check_segments(path: Path, segments: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """A sidecar that belongs to other rows would train across documents without a word."""
    fix = "Pack the corpus again."
    if segments.ndim != _MATRIX or segments.shape[1] != _SEGMENT_FIELDS or not len(segments):
        raise DataError(f"{path}: shape {segments.shape}, but segments are (pieces, 3). {fix}")
    last = segments[-1]
    if last[0] >= shape[0] or last[1] + last[2] > shape[1]:
        raise DataError(f"{path}: segment {last.tolist()} lies outside rows {shape}. {fix}")
