"""Rows of JSON lines, read with the place of every fault and written the same way every time."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from curricle.errors import DataError

Row: TypeAlias = dict[str, Any]


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (row number, row) of a JSONL file; rows are counted from 1, blank lines skipped.

    Raises:
        DataError: The file is missing, or a row is no JSON object.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file. Run the step that writes it, or correct the path.")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{path}: row {number}: not JSON ({error}). Write one object on each line."
                ) from error
            if not isinstance(row, dict):
                raise DataError(
                    f"{path}: row {number}: a {type(row).__name__}, not a JSON object. "
                    "Write one object on each line."
                )
            yield number, row


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as UTF-8 JSON lines, replacing the file; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count
