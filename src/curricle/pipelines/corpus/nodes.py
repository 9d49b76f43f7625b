"""The nodes of the corpus: each obtains one stored result from its builder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.corpus import (
    CleanParameters,
    IngestParameters,
    PackParameters,
    TokenizerParameters,
)
from curricle.stages.build import dataset_state, obtain_by_builder, read_report


def ingest_documents(parameters: IngestParameters, run: RunSettings) -> Stored:
    """Read every source, split by file."""
    from curricle.pipelines.corpus.identity import source_identities
    from curricle.pipelines.corpus.sources import ingest

    return obtain_by_builder(
        run, "corpus.ingest", lambda folder: ingest(folder, parameters), revision=1,
        parameters=parameters,
        outside={"sources": source_identities(parameters)},
    )  # fmt: skip


def clean_documents(documents: Stored, parameters: CleanParameters, run: RunSettings) -> Stored:
    """Filter, remove duplicates, decontaminate against the held-out side."""
    from curricle.pipelines.corpus.cleaning import clean

    return obtain_by_builder(
        run, "corpus.clean", lambda folder: clean(folder, documents.path, parameters), revision=1,
        parameters=parameters, inputs={"documents": documents},
    )  # fmt: skip


def train_corpus_tokenizer(
    documents: Stored, parameters: TokenizerParameters, run: RunSettings
) -> Stored:
    """Train the byte-level BPE."""
    from curricle.pipelines.corpus.tokenizer import train_tokenizer

    return obtain_by_builder(
        run, "corpus.tokenizer", lambda folder: train_tokenizer(folder, documents.path, parameters),
        revision=1, parameters=parameters, inputs={"documents": documents},
    )  # fmt: skip


def pack_documents(
    documents: Stored, tokenizer: Stored, parameters: PackParameters, run: RunSettings
) -> Stored:
    """Pack documents, or what the parameters name instead, one array per context length."""
    from curricle.pipelines.corpus.arrays import take_arrays
    from curricle.pipelines.corpus.identity import source_identities
    from curricle.pipelines.corpus.packing import pack, pack_input_ids

    def build(folder: Path) -> dict[str, Any]:
        if parameters.arrays:
            return take_arrays(folder, parameters.arrays, tokenizer.path)
        if parameters.tokenized:
            return pack_input_ids(folder, parameters.tokenized, tokenizer.path, parameters)
        return pack(folder, documents.path, tokenizer.path, parameters)

    outside: dict[str, Any] = {}
    if parameters.arrays:
        named = [*parameters.arrays.train, parameters.arrays.heldout]
        outside["arrays"] = [dataset_state(path) for path in named]
    elif parameters.tokenized:
        outside["sources"] = source_identities(parameters.tokenized)
    return obtain_by_builder(
        run, "corpus.pack", build, revision=1, parameters=parameters,
        inputs={"documents": documents, "tokenizer": tokenizer}, outside=outside,
    )  # fmt: skip


def summarise_corpus(packed: Stored) -> Any:
    """Return a ``pandas.DataFrame``, one row per packed array: documents, tokens, rows, fill."""
    import pandas as pd  # half a second, which a list of pipelines should not cost

    report = read_report(packed)
    arrays = {name: counts for name, counts in report.items() if isinstance(counts, dict)}
    return pd.DataFrame.from_dict(arrays, orient="index").rename_axis("array").reset_index()
