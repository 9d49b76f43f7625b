"""Rows of tokens on disk: written one by one, ended as a shuffled .npy with its segments.

How many rows there will be is not known while they are written, and the order is drawn at the end.
So rows go to a raw file first, which is read back in the new order a row at a time: neither the
rows nor the segments are ever in memory together (12 bytes a row are).
"""

import os
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[Any]

_SEGMENT = np.dtype(np.int32)


def segments_path(path: Path) -> Path:
    """The sidecar of an array: `train_512.segments.npy` beside `train_512.npy`."""
    return path.with_suffix(".segments.npy")


class RowWriter:
    """Writes rows of a fixed length and ends them as `<path>` and its sidecar.

    Args:
        path: the .npy file; two files beside it are used and removed.
        seq_length: tokens in a row.
        pad_id: what fills the end of a row.
    """

    def __init__(self, path: Path, seq_length: int, pad_id: int) -> None:
        self.path = path
        self.seq_length = seq_length
        self.rows = self.tokens = self.segments = 0
        self._pad_id = pad_id
        self._raw_path = path.with_suffix(".rows.tmp")
        self._segments_path = path.with_suffix(".segments.tmp")
        self._raw = self._raw_path.open("wb")
        self._segments = self._segments_path.open("wb")
        self._counts = array("i")

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._raw.close()
        self._segments.close()
        self._raw_path.unlink(missing_ok=True)
        self._segments_path.unlink(missing_ok=True)

    @property
    def fill(self) -> float:
        """Tokens per slot so far, 0 to 1."""
        return self.tokens / (self.rows * self.seq_length) if self.rows else 1.0

    def write(self, pieces: list[npt.NDArray[np.int32]]) -> None:
        """Append a row: the pieces one after another, each a segment, then padding."""
        lengths = [len(piece) for piece in pieces]
        used = sum(lengths)
        assert 0 < used <= self.seq_length and all(lengths), "a row of whole pieces that fits"
        padding = np.full(self.seq_length - used, self._pad_id, dtype=np.int32)
        self._raw.write(np.concatenate([*pieces, padding]).tobytes())
        starts = np.cumsum([0, *lengths[:-1]])
        self._segments.write(np.column_stack([starts, lengths]).astype(_SEGMENT).tobytes())
        self._counts.append(len(pieces))
        self.rows += 1
        self.tokens += used
        self.segments += len(pieces)

    def finish(self, seed: int) -> None:
        """Write the rows in an order drawn from `seed`, and the sorted segments of that order."""
        self._raw.close()
        self._segments.close()
        order = np.random.default_rng(seed).permutation(self.rows)
        with self._raw_path.open("rb", buffering=0) as raw, self.path.open("wb") as out:
            _write_header(out, (self.rows, self.seq_length), np.dtype(np.int64))
            size = self.seq_length * 4
            for row in order:
                content = os.pread(raw.fileno(), size, int(row) * size)
                out.write(np.frombuffer(content, np.int32).astype(np.int64).tobytes())
        counts = np.frombuffer(self._counts, dtype=np.int32)
        ends = np.cumsum(counts, dtype=np.int64)
        with (
            self._segments_path.open("rb", buffering=0) as raw,
            segments_path(self.path).open("wb") as out,
        ):
            _write_header(out, (self.segments, 3), _SEGMENT)
            for new, old in enumerate(order):
                count = int(counts[old])
                content = os.pread(raw.fileno(), count * 8, int(ends[old] - count) * 8)
                segments = np.frombuffer(content, _SEGMENT).reshape(count, 2)
                rows = np.full((count, 1), new, dtype=_SEGMENT)
                out.write(np.hstack([rows, segments]).tobytes())


def _write_header(out: Any, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    header = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)
