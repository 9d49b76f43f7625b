"""Coming back: from an interruption, and from memory that ran out.

A trainer checkpoint without a valid manifest does not exist. The resolver takes the newest valid
one and says what it skipped and why, where Hugging Face's takes the highest number on trust.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import torch

from curricle.checkpoints.manifest import (
    Manifest,
    describe_files,
    read_manifest,
    verify_folder,
    write_manifest,
)
from curricle.errors import StoreError

logger = logging.getLogger(__name__)


def seal_checkpoint(folder: Path, step: int, effective: dict[str, object]) -> None:
    """Write the manifest that makes a trainer checkpoint valid; the last file in it."""
    write_manifest(
        folder,
        Manifest(
            step="trainer", fingerprint=str(step), identity={"step": step},
            files=describe_files(folder), effective=effective,
        ),
    )  # fmt: skip


def newest_valid_checkpoint(folder: Path) -> Path | None:
    """Return the newest valid ``checkpoint-<step>`` below ``folder``, or ``None``."""
    for checkpoint in _newest_first(folder):
        manifest = read_manifest(checkpoint)
        if manifest is None:
            logger.warning("skipped %s: it was not finished", checkpoint.name)
            continue
        try:
            verify_folder(checkpoint, manifest)
        except StoreError as error:
            logger.warning("skipped %s: %s", checkpoint.name, error)
            continue
        return checkpoint
    return None


def rotate_checkpoints(folder: Path, keep: int) -> None:
    """Keep the newest ``keep`` valid checkpoints; unfinished older ones go too."""
    valid = [path for path in _newest_first(folder) if read_manifest(path) is not None]
    newest = _step(valid[0]) if valid else -1
    for path in _newest_first(folder):
        if path not in valid[:keep] and _step(path) < newest:
            shutil.rmtree(path)


class OOMHandler:
    """Halves the micro-batch when memory runs out; accumulation doubles with it.

    The effective batch and the order of the data stay the same, so the losses do too, but for
    rounding. Whoever uses it resumes from the last valid checkpoint, never from the state that
    the failed step left behind.

    Attributes:
        micro_batch: rows of one forward pass now.
    """

    def __init__(self, micro_batch: int, enabled: bool = True) -> None:
        self.micro_batch = micro_batch
        self._enabled = enabled

    def shrink(self, error: BaseException) -> None:
        """Halve the micro-batch.

        Raises:
            BaseException: the error itself, when it is not about memory, when recovery is off, or
                when a single row does not fit.
        """
        if not (self._enabled and is_out_of_memory(error) and self.micro_batch > 1):
            raise error
        before, self.micro_batch = self.micro_batch, self.micro_batch // 2
        logger.warning("out of memory with micro-batches of %d rows: going on from the last valid "
                       "checkpoint with %d", before, self.micro_batch)  # fmt: skip
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that an allocation failed, on a GPU or on a CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1
