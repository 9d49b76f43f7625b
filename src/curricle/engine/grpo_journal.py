"""Rounds on disk: recorded when they are rolled out, replayed when a run resumes.

A run that was killed goes on from the last saved step. The rounds after that step have been rolled
out already, and what a tool printed or a test took might differ the second time: they are read back
instead, so that the run ends as if nothing had happened. A line counts only with its own hash, so
one that was cut off by the kill does not exist.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from curricle.engine.grpo_rounds import Attempt, Group, Round

logger = logging.getLogger(__name__)

JOURNAL_NAME = "rounds.jsonl"


class RoundJournal:
    """The rounds of one run, by number."""

    def __init__(self, folder: Path) -> None:
        """Read what is valid, and cut off the rest."""
        self._path = folder / JOURNAL_NAME
        self._rounds: list[Round] = []
        content = self._path.read_bytes() if self._path.exists() else b""
        valid = 0
        for line in content.splitlines(keepends=True):
            recorded = _read(line)
            if recorded is None or recorded.number != len(self._rounds):
                logger.warning("%s: cut after round %d", self._path.name, len(self._rounds))
                break
            self._rounds.append(recorded)
            valid += len(line)
        if valid < len(content):
            with self._path.open("r+b") as stream:
                stream.truncate(valid)
                os.fsync(stream.fileno())

    @property
    def rounds(self) -> list[Round]:
        """All recorded rounds, in order."""
        return list(self._rounds)

    def find(self, number: int) -> Round | None:
        """Return a recorded round."""
        return self._rounds[number] if number < len(self._rounds) else None

    def record(self, done: Round) -> None:
        """Append a round; it is on disk when this returns."""
        assert done.number == len(self._rounds), "rounds are recorded in order"
        text = json.dumps(asdict(done), separators=(",", ":"))
        with self._path.open("ab") as stream:
            stream.write(f"{_hash(text)} {text}\n".encode())
            stream.flush()
            os.fsync(stream.fileno())
        self._rounds.append(done)


def _read(line: bytes) -> Round | None:
    digest, _, text = line.decode(errors="replace").rstrip("\n").partition(" ")
    if not line.endswith(b"\n") or digest != _hash(text):
        return None
    fields = json.loads(text)
    groups, replaced = (
        [Group(g["task"], [Attempt(**a) for a in g["attempts"]]) for g in fields[key]]
        for key in ("groups", "replaced")
    )
    return Round(fields["number"], groups, replaced, fields["drawn"])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
