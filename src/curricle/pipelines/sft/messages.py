"""Conversations from elsewhere: read row by row, and refused where they could not be trained on.

A wrong turn order does not fail in a trainer; it renders, and trains on something else. So every
row is checked here, with its number.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curricle.errors import DataError
from curricle.pipelines.sft.conversations import Messages
from curricle.pipelines.sft.rows import Row, read_rows

# Which role may follow which; None stands before the first turn.
_FOLLOWERS: dict[str | None, tuple[str, ...]] = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


def read_messages(path: Path) -> Iterator[Row]:
    """Yield the rows of a dataset, each with checked `messages`, or else with a `text`.

    Args:
        path: JSONL, Parquet, a folder of such files, or a dataset that `datasets` saved on disk.

    Raises:
        DataError: Nothing can be read there, or a row has neither column, or a bad one.
    """
    for where, row in read_table(path):
        if row.get("messages") is not None:
            yield {**row, "messages": checked_messages(row["messages"], where)}
        elif isinstance(row.get("text"), str) and row["text"].strip():
            yield row
        elif row.get("text") is not None:
            raise DataError(f"{where}: `text` is empty or no string. Remove the row.")
        else:
            raise DataError(
                f"{where}: neither `messages` nor `text`; it has {_names(sorted(row))}. "
                "Rename the column that holds the conversation."
            )


def checked_messages(messages: Any, where: str, opening: str | None = None) -> Messages:
    """Return the messages without empty fields, after checking roles, order and content.

    Args:
        messages: What a row holds.
        where: File and row, for the error.
        opening: The role before the first message, for an answer that continues a prompt.

    Raises:
        DataError: They are no conversation that ends with the assistant.
    """
    turns = checked_turns(messages, where, opening)
    if not any(turn["role"] == "assistant" for turn in turns):
        raise DataError(f"{where}: no assistant turn, so nothing to learn. Remove the row.")
    if turns[-1]["role"] != "assistant":
        raise DataError(
            f"{where}: the last turn is {turns[-1]['role']}'s. End with the assistant's."
        )
    return turns


def checked_turns(messages: Any, where: str, opening: str | None = None) -> Messages:
    """As `checked_messages`, but any role may end them."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise DataError(f"{where}: no messages: an empty or absent list. Remove the row.")
    previous = opening
    turns: Messages = []
    for number, message in enumerate(messages, start=1):
        turn = f"{where}, message {number}"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise DataError(f"{turn}: not an object with `role` and `content`. Write both.")
        role = message["role"]
        allowed = _FOLLOWERS[previous]
        if role not in allowed:
            after = f"after {previous}" if previous else "at the start"
            raise DataError(
                f"{turn}: role {role!r} {after}, where {_names(allowed)} belongs. Order the turns: "
                "optional system, then user and assistant in turn (tool after assistant)."
            )
        # Parquet gives every message every field, most of them empty.
        kept = {key: value for key, value in message.items() if value is not None}
        calls_only = role == "assistant" and kept.get("tool_calls") and "content" not in kept
        if not calls_only and not isinstance(kept.get("content"), str):
            raise DataError(
                f"{turn}: content is {type(message.get('content')).__name__}, not a string. "
                "Flatten it to text."
            )
        turns.append(kept)
        previous = role
    return turns


def read_table(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield (file and row for errors, row) of JSONL, Parquet, a folder of them, a saved dataset.

    Raises:
        DataError: Nothing is there, or nothing of these kinds.
    """
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file():
            yield from _saved_dataset(path)
            return
        files = sorted(p for p in path.rglob("*") if p.suffix in (".jsonl", ".parquet"))
        if not files:
            raise DataError(
                f"{path}: no .jsonl, no .parquet and no saved dataset in this folder. "
                "Name the folder that holds them."
            )
        for file in files:
            yield from read_table(file)
    elif path.suffix == ".parquet" and path.is_file():
        yield from _parquet(path)
    elif path.suffix == ".jsonl" or not path.exists():
        for number, row in read_rows(path):
            yield f"{path}: row {number}", row
    else:
        raise DataError(f"{path}: neither .jsonl nor .parquet. Convert it to one of them.")


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(path)
    except ArrowInvalid as error:
        raise DataError(f"{path}: not Parquet ({error}). Write the file again.") from error
    number = 0
    with table:
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row


def _saved_dataset(path: Path) -> Iterator[tuple[str, Row]]:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(path))
    if isinstance(saved, DatasetDict):
        if "train" not in saved:
            raise DataError(
                f"{path}: splits {_names(sorted(saved))}, no 'train'. Name the folder of one split."
            )
        saved = saved["train"]
    for number, row in enumerate(saved, start=1):
        yield f"{path}: row {number}", dict(row)


def _names(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names) or "nothing"
