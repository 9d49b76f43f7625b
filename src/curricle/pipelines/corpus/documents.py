"""Documents as they pass between the builders: one JSON object a line, streamed.

A document is {"id", "text", "kind", "path", "source"}, all strings; `kind` is "code" or "prose".
Nothing here holds more than one document at a time.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from curricle.errors import DataError

Document: TypeAlias = dict[str, str]

_HASH_RANGE = 1 << 64


def seeded_hash(key: str, seed: int) -> int:
    """Hash `key` to 64 bits that do not depend on the process, the platform or the order.

    Returns:
        An integer in [0, 2**64), uniform over keys, different for every seed.
    """
    digest = hashlib.blake2b(f"{seed}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def is_chosen(key: str, seed: int, share: float) -> bool:
    """Whether `key` falls in a pseudo-random `share` (0 to 1) of all keys."""
    return seeded_hash(key, seed) < share * _HASH_RANGE


def in_seeded_order(names: Iterable[str], seed: int) -> list[str]:
    """Names in a pseudo-random order, independent of which of them `is_chosen` chooses."""
    return sorted(names, key=lambda name: (seeded_hash(f"order\0{name}", seed), name))


def text_bytes(text: str) -> int:
    """Size of `text` in UTF-8, in bytes."""
    return len(text) if text.isascii() else len(text.encode())


def to_line(document: Document) -> bytes:
    """One document as a line of UTF-8 JSON."""
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file that `ingest` or `clean` wrote.

    Raises:
        DataError: the file is missing, or a row is no document; names file and row.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file. Run the step before (ingest, then clean) again.")
    with path.open("rb") as lines:
        for row, line in enumerate(lines, start=1):
            try:
                document = json.loads(line)
                complete = isinstance(document["text"], str) and isinstance(document["id"], str)
            except (ValueError, KeyError, TypeError):
                complete = False
            if not complete:
                raise DataError(
                    f"{path}: row {row} is no document (a JSON object with `id` and `text`). "
                    "The file was edited or cut short: run the step before again."
                )
            yield document


def write_documents(path: Path, documents: Iterable[Document]) -> tuple[int, int]:
    """Write documents to `path`, replacing it.

    Returns:
        How many were written, and the bytes of their text.
    """
    count = size = 0
    with path.open("wb") as out:
        for document in documents:
            out.write(to_line(document))
            count += 1
            size += text_bytes(document["text"])
    return count, size
