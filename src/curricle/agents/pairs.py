"""Which conversations are worth comparing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]


def differ_in_length_only(first: Sequence[Message], second: Sequence[Message]) -> bool:
    """Say whether two conversations did the same things, one of them for longer.

    Turns that only repeat an earlier one, and turns after the end of the shorter conversation, are
    length. Preferring one of such a pair teaches brevity or chatter, and nothing of the task.
    """
    shorter, longer = sorted((_deeds(first), _deeds(second)), key=len)
    return longer[: len(shorter)] == shorter


def _deeds(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """What the model called, or said without calling; nothing twice."""
    deeds: list[tuple[str, str]] = []
    for message in messages:
        if message["role"] != "assistant":
            continue
        calls = str(message.get("tool_calls") or "")
        deed = (calls, "" if calls else str(message.get("content") or ""))
        if deed not in deeds:
            deeds.append(deed)
    return deeds
