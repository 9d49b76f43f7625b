"""Held-out documents in the foundation's own tokens: what forgetting is measured on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from curricle.errors import DataError
from curricle.pipelines.corpus.documents import read_documents, seeded_hash
from curricle.pipelines.corpus.packer import Packer, Tokens
from curricle.pipelines.corpus.rows import RowWriter


def pack_heldout(folder: Path, documents: Path, model: Path, seq_length: int) -> dict[str, Any]:
    """Write ``heldout_<L>.npy`` and its segments, as ``curricle.pipelines.corpus.packing`` does.

    Args:
        folder: where the array goes; exists.
        documents: the folder that ``clean`` wrote.
        model: a checkpoint with a fast tokenizer.
        seq_length: tokens of a row.

    Raises:
        DataError: there is no held-out document.
    """
    end, pad = _special_ids(model)
    with RowWriter(folder / f"heldout_{seq_length}.npy", seq_length, pad) as writer:
        packer = Packer(writer, 1_000_000)
        for tokens in _encoded(documents / "heldout.jsonl", model, end):
            packer.add(tokens)
        if not packer.documents:
            raise DataError(f"{documents}: no held-out documents. Run ingest and clean again.")
        packer.finish(seeded_hash("heldout", 0))
        return {f"heldout_{seq_length}": packer.report()}


def _encoded(path: Path, model: Path, end: int) -> Iterator[Tokens]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # a document must not be able to end itself
    for document in read_documents(path):
        ids = tokenizer.encode(document["text"], add_special_tokens=False).ids
        yield np.array([*ids, end], dtype=np.int32)


def _special_ids(model: Path) -> tuple[int, int]:
    """The end-of-text and the padding token that the checkpoint's tokenizer names."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    names = json.loads((model / "tokenizer_config.json").read_text())
    found = []
    for key in ("eos_token", "pad_token"):
        name = names.get(key) or names.get("eos_token")
        name = name["content"] if isinstance(name, dict) else name
        number = tokenizer.token_to_id(name) if name else None
        if number is None:
            raise DataError(
                f"{model / 'tokenizer_config.json'}: no {key} that the tokenizer knows."
            )
        found.append(number)
    return found[0], found[1]
