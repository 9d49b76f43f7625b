"""Small real files for the tests of the corpus builders, and ways to read what these write."""

import json
import random
from collections.abc import Iterable
from pathlib import Path

from curricle.config.corpus import SourceParameters


def sentence(generator: random.Random, words: int) -> str:
    """Random words, of 1260 there are: no two sentences share a run of them by accident."""
    animals = (
        "ant bee cow dog elk fox gnu hen ibis jay kite lark mole newt owl pig quail rat".split()
    )
    endings = [first + second for first in "bcdfghklmnprst" for second in "aeiou"]
    return " ".join(generator.choice(animals) + generator.choice(endings) for _ in range(words))


def document(id: str, text: str, kind: str = "prose") -> dict[str, str]:
    return {"id": id, "text": text, "kind": kind, "path": id, "source": "test"}


def read_jsonl(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_jsonl(path: Path, rows: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def folder_source(path: Path, **more: object) -> SourceParameters:
    return SourceParameters.model_validate({"kind": "folder", "path": str(path), **more})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
