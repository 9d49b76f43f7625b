"""Arrays from elsewhere are checked, taken over, and trained on with their documents apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus_files import document, write_jsonl

from curricle.config.corpus import ExternalArrays, TokenizerParameters
from curricle.errors import DataError
from curricle.pipelines.corpus.arrays import take_arrays
from curricle.pipelines.corpus.packed import PackedArray
from curricle.pipelines.corpus.rows import segments_path
from curricle.pipelines.corpus.tokenizer import train_tokenizer

VOCABULARY = 270


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [f"def f{n}(value{n * 7}):\n    return value{n * 7} + {n**3}\n" for n in range(60)]
    rows = [document(f"f{n}.py", text, "code") for n, text in enumerate(texts)]
    write_jsonl(folder / "train.jsonl", rows)
    train_tokenizer(folder, folder, TokenizerParameters(vocab_size=VOCABULARY))
    return folder


def save(path: Path, rows: np.ndarray) -> str:
    np.save(path, rows)
    return str(path)


def rows(seq_length: int, highest: int = VOCABULARY) -> np.ndarray:
    return np.random.default_rng(0).integers(4, highest, (6, seq_length), dtype=np.int32)


def test_arrays_are_taken_over_with_their_sidecars(tokenizer: Path, tmp_path: Path) -> None:
    short = save(tmp_path / "a.npy", rows(16))
    np.save(segments_path(tmp_path / "a.npy"), np.array([[r, 0, 16] for r in range(6)], np.int32))
    arrays = ExternalArrays(
        train=(short, save(tmp_path / "b.npy", rows(32))),
        heldout=save(tmp_path / "c.npy", rows(32)),
    )
    folder = tmp_path / "packed"
    folder.mkdir()
    report = take_arrays(folder, arrays, tokenizer)
    assert sorted(report) == ["heldout_32", "train_16", "train_32"]
    taken = PackedArray.open(folder / "train_16.npy", eos_id=0, pad_id=1)
    np.testing.assert_array_equal(taken.tokens, rows(16))
    assert taken.segments is not None and report["train_16"] == {"rows": 6, "slots": 96}


def test_ids_of_another_tokenizer_are_named(tokenizer: Path, tmp_path: Path) -> None:
    bad = rows(16)
    bad[3, 5] = VOCABULARY
    path = save(tmp_path / "a.npy", bad)
    with pytest.raises(DataError, match=rf"row 3 holds token {VOCABULARY}, outside the vocabulary"):
        take_arrays(tmp_path, ExternalArrays(train=(path,), heldout=path), tokenizer)


def test_two_arrays_of_one_length_are_refused(tokenizer: Path, tmp_path: Path) -> None:
    paths = tuple(save(tmp_path / f"{name}.npy", rows(16)) for name in "ab")
    folder = tmp_path / "packed"
    folder.mkdir()
    with pytest.raises(DataError, match="rows of 16 tokens, as in an array before it"):
        take_arrays(folder, ExternalArrays(train=paths, heldout=paths[0]), tokenizer)
