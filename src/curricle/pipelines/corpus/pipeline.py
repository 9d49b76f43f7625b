"""Corpus: ingest, clean, train the tokenizer, pack one array per context length."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from curricle.pipelines.corpus.nodes import (
    clean_documents,
    ingest_documents,
    pack_documents,
    summarise_corpus,
    train_corpus_tokenizer,
)


def create_pipeline() -> Pipeline:
    """Return the corpus pipeline; it ends in ``corpus_packed`` and ``corpus_tokenizer``."""
    run = {"run": "params:run"}
    nodes = [
        Node(ingest_documents, {"parameters": "params:ingest", **run}, "ingested", name="ingest"),
        Node(
            clean_documents,
            {"documents": "ingested", "parameters": "params:clean", **run},
            "corpus_documents",
            name="clean",
        ),
        Node(
            train_corpus_tokenizer,
            {"documents": "corpus_documents", "parameters": "params:tokenizer", **run},
            "corpus_tokenizer",
            name="train_tokenizer",
        ),
        Node(
            pack_documents,
            {
                "documents": "corpus_documents",
                "tokenizer": "corpus_tokenizer",
                "parameters": "params:pack",
                **run,
            },
            "corpus_packed",
            name="pack",
        ),
        Node(summarise_corpus, "corpus_packed", "corpus_summary", name="summarise"),
    ]
    return Pipeline(
        nodes,
        namespace="corpus",
        outputs={"corpus_documents", "corpus_tokenizer", "corpus_packed", "corpus_summary"},
        parameters={"params:run"},
        tags="corpus",
    )
