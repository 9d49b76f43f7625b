"""Stable hashes of JSON-able values and of files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def canonical_json(value: Any) -> str:
    """Serialise ``value`` so that equal values give equal text.

    Raises:
        TypeError: ``value`` holds something that JSON has no form for.
        ValueError: ``value`` holds NaN or an infinity, which would never compare equal.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def hash_value(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def hash_tree(path: Path) -> str:
    """Return one hash of a file, or of all files below a folder with their relative names."""
    if path.is_file():
        return hash_file(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return hash_value([[p.relative_to(path).as_posix(), hash_file(p)] for p in files])
