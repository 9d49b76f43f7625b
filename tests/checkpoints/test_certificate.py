"""Certificates chain, survive a move of the project, and cannot be edited unseen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from kedro.io import DatasetError

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.datasets import CertificateDataset, StoredDataset
from curricle.checkpoints.store import Built, Store, Stored


def stored(root: Path, step: str, text: str) -> Stored:
    def build(result: Path, resume: Path) -> Built:
        (result / "weights").write_text(text)
        return Built()

    return Store(root / "store").obtain(step, {"text": text}, build)


@pytest.fixture
def chain(tmp_path: Path) -> Certificate:
    first = Certificate(
        "pretrain", stored(tmp_path, "pretrain.train", "p"), {"metrics": {"perplexity": 90.0}}
    )
    return Certificate("sft", stored(tmp_path, "sft.train", "s"), {"metrics": {}}, parent=first)


@pytest.fixture
def dataset(tmp_path: Path) -> CertificateDataset:
    return CertificateDataset(filepath=str(tmp_path / "models" / "sft_checkpoint.json"))


def test_a_certificate_comes_back_as_it_was_saved(
    chain: Certificate, dataset: CertificateDataset
) -> None:
    dataset.save(chain)
    assert dataset.load() == chain
    assert dataset.load().hash == chain.hash


def test_a_changed_parent_changes_the_hash(chain: Certificate) -> None:
    assert chain.parent is not None
    other = Certificate(
        "pretrain", chain.parent.candidate, {"metrics": {"perplexity": 80.0}}, parent=None
    )
    assert Certificate(chain.stage, chain.candidate, chain.report, other).hash != chain.hash


def test_ancestors_are_found_by_stage(chain: Certificate) -> None:
    ancestor = chain.ancestor("pretrain")
    assert ancestor is not None and ancestor.metrics == {"perplexity": 90.0}
    assert chain.ancestor("dpo") is None


def test_an_edited_certificate_is_refused(
    chain: Certificate, dataset: CertificateDataset, tmp_path: Path
) -> None:
    dataset.save(chain)
    path = tmp_path / "models" / "sft_checkpoint.json"
    content = json.loads(path.read_text())
    content["parent"]["report"]["metrics"]["perplexity"] = 1.0
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="is not a certificate as a gate wrote it"):
        dataset.load()
    assert not dataset.exists()


def test_it_exists_only_while_its_candidate_does(
    chain: Certificate, dataset: CertificateDataset
) -> None:
    dataset.save(chain)
    assert dataset.exists()
    shutil.rmtree(chain.candidate.path)
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="kedro run --pipelines sft"):
        dataset.load()


def test_an_older_certificate_stays_in_the_archive(
    chain: Certificate, dataset: CertificateDataset, tmp_path: Path
) -> None:
    newer = Certificate("sft", chain.candidate, {"metrics": {"x": 1.0}}, chain.parent)
    dataset.save(chain)
    dataset.save(newer)
    assert dataset.load() == newer
    archived = {p.stem for p in (tmp_path / "models/archive/sft_checkpoint").iterdir()}
    assert archived == {chain.hash[:16], newer.hash[:16]}


def test_a_project_can_move(
    chain: Certificate, dataset: CertificateDataset, tmp_path: Path
) -> None:
    dataset.save(chain)
    moved = tmp_path.parent / (tmp_path.name + "-moved")
    shutil.move(tmp_path, moved)
    reloaded = CertificateDataset(filepath=str(moved / "models/sft_checkpoint.json")).load()
    assert reloaded.candidate.path.is_relative_to(moved)
    assert reloaded.hash == chain.hash


def test_a_handle_that_was_never_saved_names_the_stage_to_run(tmp_path: Path) -> None:
    missing = StoredDataset(filepath=str(tmp_path / "sft_candidate.json"))
    with pytest.raises(DatasetError, match="kedro run --pipelines sft"):
        missing.load()
