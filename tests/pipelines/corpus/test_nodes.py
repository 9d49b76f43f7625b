"""The nodes of the corpus: each result is stored once, and found again until its source changes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from corpus_files import folder_source, sentence

from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.corpus import (
    CleanParameters,
    ContextStage,
    IngestParameters,
    PackParameters,
    TokenizerParameters,
)
from curricle.errors import DataError
from curricle.pipelines.corpus.nodes import (
    clean_documents,
    ingest_documents,
    pack_documents,
    summarise_corpus,
    train_corpus_tokenizer,
)

PACK = PackParameters(curriculum=(ContextStage(seq_length=64, share=1.0),))


@dataclass(frozen=True)
class Corpus:
    """What the nodes obtained, in order."""

    ingested: Stored
    cleaned: Stored
    tokenizer: Stored
    packed: Stored


def obtain(source: Path, run: RunSettings, pack: PackParameters = PACK) -> Corpus:
    parameters = IngestParameters(sources=(folder_source(source),), heldout_share=0.2)
    ingested = ingest_documents(parameters, run)
    cleaned = clean_documents(ingested, CleanParameters(), run)
    tokenizer = train_corpus_tokenizer(cleaned, TokenizerParameters(vocab_size=280), run)
    return Corpus(ingested, cleaned, tokenizer, pack_documents(cleaned, tokenizer, pack, run))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Forty files of prose."""
    generator = random.Random(0)
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(sentence(generator, 60))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    return RunSettings(store=tmp_path / "store")


def written(run: RunSettings) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.store.rglob("*")}


def test_each_node_stores_its_result(source: Path, run: RunSettings) -> None:
    corpus = obtain(source, run)
    steps = [stored.step for stored in vars(corpus).values()]
    assert steps == ["corpus.ingest", "corpus.clean", "corpus.tokenizer", "corpus.pack"]
    for stored in vars(corpus).values():
        assert (stored.path / "report.json").exists()
        assert stored.manifest().digest == stored.digest
    assert (corpus.packed.path / "train_64.npy").exists()


def test_a_second_call_reuses_everything(source: Path, run: RunSettings) -> None:
    corpus = obtain(source, run)
    before = written(run)
    assert obtain(source, run) == corpus
    assert written(run) == before


def test_a_changed_source_file_makes_all_anew_beside_the_old(
    source: Path, run: RunSettings
) -> None:
    before = obtain(source, run)
    path = source / "7.txt"
    path.write_text(path.read_text().replace("a", "o", 1))  # of the same size
    after = obtain(source, run)
    assert before.ingested.fingerprint != after.ingested.fingerprint
    assert before.packed.fingerprint != after.packed.fingerprint
    assert all(stored.path.exists() for stored in vars(before).values())


def test_a_source_that_was_only_touched_changes_nothing(source: Path, run: RunSettings) -> None:
    before = obtain(source, run)
    (source / "7.txt").touch()
    assert obtain(source, run) == before


def test_a_changed_parameter_makes_anew_only_what_it_decides(
    source: Path, run: RunSettings
) -> None:
    before = obtain(source, run)
    after = obtain(source, run, PACK.model_copy(update={"seed": 1}))
    assert before.packed.fingerprint != after.packed.fingerprint
    assert (before.ingested, before.cleaned, before.tokenizer) == (
        after.ingested, after.cleaned, after.tokenizer,
    )  # fmt: skip


def test_a_missing_source_is_named(run: RunSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such source"):
        obtain(tmp_path / "nowhere", run)


def test_the_summary_has_a_row_per_array(source: Path, run: RunSettings) -> None:
    summary = summarise_corpus(obtain(source, run).packed)
    assert set(summary["array"]) == {"train_64", "heldout_64"}
    assert (summary["fill"] > 0.5).all() and (summary["rows"] > 0).all()
