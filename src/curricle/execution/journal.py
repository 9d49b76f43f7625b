"""Results that are never lost and never counted twice: an append-only journal, keyed by content.

A journal is a folder of JSONL segments. Whoever opens it and records something starts a segment of
its own, so no two processes ever write to one file, and nothing is ever appended behind a line that
a crash cut short. A record is one `write` of one line: it survives the death of the process as soon
as `append` returns, and a power cut once it is synced (every second, and at the end).

In memory is an index of keys to places alone; outcomes are read from disk when asked for.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from curricle.errors import StoreError

logger = logging.getLogger(__name__)

_OFFSET_BITS = 48
_SYNC_EVERY_S = 1.0


class Status(StrEnum):
    """What became of an item."""

    DONE = "done"
    """There is a result; whether it is good or bad is in its value."""
    MASKED = "masked"
    """The infrastructure failed it too often; it says nothing of the candidate."""


@dataclass(frozen=True)
class Outcome:
    """What one item gave.

    Attributes:
        status: Whether there is a result.
        value: What the work function returned; empty when masked.
        attempts: How many workers tried.
        duration_s: Seconds that the work function took; of a masked one, until it was given up.
        note: Why it is masked, for people.
    """

    status: Status
    value: dict[str, Any]
    attempts: int = 1
    duration_s: float = 0.0
    note: str = ""


class Journal:
    """Outcomes by key, in a folder.

    Looking a key up finds what any earlier run recorded. A masked outcome gives way to a result,
    and a result to nothing: a key that two runs recorded counts once, with its first result.

    Attributes:
        torn: Files whose last line was cut short by a crash; that line counts as never written.
        duplicates: Records that were left out because their key has a result already.
    """

    def __init__(self, folder: Path) -> None:
        """Open a journal, and read its keys.

        Raises:
            StoreError: A line other than a segment's last is not a record.
        """
        self.folder = folder
        self.torn: tuple[Path, ...] = ()
        self.duplicates = 0
        self._places: dict[str, int] = {}
        self._masked: set[str] = set()
        self._segments: list[Path] = []
        self._reader: tuple[int, BinaryIO] | None = None
        self._writer: int | None = None
        self._size = 0
        self._synced_at = 0.0
        self._unsynced = False
        for segment in sorted(folder.glob("*.jsonl")):
            self._read_keys(segment)
        if self.torn:
            logger.warning(
                "journal %s: %d line(s) cut short by a crash are ignored and computed again: %s",
                folder, len(self.torn), ", ".join(path.name for path in self.torn),
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        yield from self._places

    def get(self, key: str) -> Outcome | None:
        """The outcome of a key, or `None`."""
        place = self._places.get(key)
        if place is None:
            return None
        stream = self._open_for_reading(place >> _OFFSET_BITS)
        stream.seek(place & ((1 << _OFFSET_BITS) - 1))
        return _outcome(json.loads(stream.readline()))

    def items(self) -> Iterator[tuple[str, Outcome]]:
        """Every key with its outcome, in the order of recording, one in memory at a time."""
        for number, segment in enumerate(tuple(self._segments)):
            offset = 0
            with segment.open("rb") as stream:
                for line in stream:
                    place, offset = number << _OFFSET_BITS | offset, offset + len(line)
                    if not line.endswith(b"\n"):
                        break
                    record = json.loads(line)
                    if self._places.get(record["key"]) == place:
                        yield record["key"], _outcome(record)

    def append(self, key: str, outcome: Outcome) -> bool:
        """Record an outcome; return whether it counts.

        Raises:
            ValueError: The value is not JSON, or holds NaN or an infinity.
        """
        masked = outcome.status is Status.MASKED
        if not self._admits(key, masked):
            return False
        record = {
            "key": key,
            "status": outcome.status.value,
            "attempts": outcome.attempts,
            "duration_s": outcome.duration_s,
            "note": outcome.note,
            "value": outcome.value,
        }
        # ASCII, because what candidates print may hold surrogates that UTF-8 has no form for.
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        self._write(line)
        self._enter(key, len(self._segments) - 1, self._size, masked)
        self._size += len(line)
        self._unsynced = True
        if time.monotonic() - self._synced_at > _SYNC_EVERY_S:
            self.sync()
        return True

    def sync(self) -> None:
        """Return when all that was recorded would survive a power cut."""
        if self._writer is not None and self._unsynced:
            os.fsync(self._writer)
            self._unsynced = False
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Sync, and release all files; what was recorded can still be read."""
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None
        if self._writer is not None:
            self.sync()
            os.close(self._writer)
            self._writer = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_for_reading(self, segment: int) -> BinaryIO:
        """A stream of a segment; the last one stays open, because a resume reads in order."""
        if self._reader is None or self._reader[0] != segment:
            if self._reader is not None:
                self._reader[1].close()
            self._reader = segment, self._segments[segment].open("rb")
        return self._reader[1]

    def _read_keys(self, segment: Path) -> None:
        number, offset = len(self._segments), 0
        self._segments.append(segment)
        with segment.open("rb") as stream:
            for line_number, line in enumerate(stream, start=1):
                if not line.endswith(b"\n"):
                    self.torn = (*self.torn, segment)
                    break
                try:
                    record = json.loads(line)
                    key, masked = record["key"], record["status"] == Status.MASKED
                except (ValueError, KeyError, TypeError) as error:
                    raise StoreError(
                        f"{segment}:{line_number} is not a record of a journal. Delete that line: "
                        "its item is then computed again."
                    ) from error
                if self._admits(key, masked):
                    self._enter(key, number, offset, masked)
                else:
                    self.duplicates += 1
                offset += len(line)

    def _admits(self, key: str, masked: bool) -> bool:
        return key not in self._places or (key in self._masked and not masked)

    def _enter(self, key: str, segment: int, offset: int, masked: bool) -> None:
        self._places[key] = segment << _OFFSET_BITS | offset
        if masked:
            self._masked.add(key)
        else:
            self._masked.discard(key)

    def _write(self, line: bytes) -> None:
        if self._writer is None:
            self._writer = self._open_segment()
        written = os.write(self._writer, line)
        if written != len(line):
            # A line that is cut short has to stay the last of its segment.
            os.close(self._writer)
            self._writer = None
            raise OSError(f"{self.folder}: {written} of {len(line)} bytes written. Is it full?")

    def _open_segment(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Numbered, so that names sort by age; a run at the same time may take the same number.
        last = max((int(p.name.split("-")[0]) for p in self.folder.glob("*.jsonl")), default=0)
        segment = self.folder / f"{last + 1:06d}-{os.getpid()}-{os.urandom(3).hex()}.jsonl"
        writer = os.open(segment, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self._segments.append(segment)
        self._size = 0
        return writer


def _outcome(record: dict[str, Any]) -> Outcome:
    return Outcome(
        Status(record["status"]), record["value"], record["attempts"], record["duration_s"],
        record["note"],
    )  # fmt: skip
