"""Preference pairs from elsewhere: any text or messages in, checked messages out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curricle.errors import DataError
from curricle.pipelines.sft.conversations import Messages, reply
from curricle.pipelines.sft.messages import checked_messages, checked_turns, read_table
from curricle.pipelines.sft.rows import Row

_COLUMNS = ("prompt", "chosen", "rejected")


def read_pairs(path: Path) -> Iterator[Row]:
    """Yield rows of `prompt`, `chosen` and `rejected`, each a list of messages.

    Args:
        path: JSONL, Parquet, a folder of such files, or a dataset that `datasets` saved on disk.
            Each column holds a text (the user's, the assistant's) or messages.

    Raises:
        DataError: A row lacks a column, holds a bad conversation, or prefers an answer to itself.
    """
    for where, row in read_table(path):
        missing = [name for name in _COLUMNS if row.get(name) is None]
        if missing:
            raise DataError(
                f"{where}: no {' and no '.join(f'`{name}`' for name in missing)}. A pair needs "
                "`prompt`, `chosen` and `rejected`, with the prompt in a column of its own."
            )
        prompt = _prompt(row["prompt"], f"{where}, prompt")
        chosen, rejected = (
            _answer(row[name], f"{where}, {name}", prompt[-1]["role"])
            for name in ("chosen", "rejected")
        )
        if chosen == rejected:
            raise DataError(
                f"{where}: chosen and rejected are identical, so it prefers nothing. "
                "Remove the row."
            )
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _prompt(prompt: Any, where: str) -> Messages:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    checked = checked_turns(turns, where)
    if checked[-1]["role"] not in ("user", "tool"):
        raise DataError(
            f"{where}: ends with {checked[-1]['role']}'s turn, so nothing is left to answer. "
            "Move that turn into `chosen` and `rejected`."
        )
    return checked


def _answer(answer: Any, where: str, opening: str) -> Messages:
    turns = [reply(answer)] if isinstance(answer, str) else answer
    return checked_messages(turns, where, opening)
