import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from corpus_files import contents

from curricle.config.corpus import (
    IngestParameters,
    PackParameters,
    SourceParameters,
    TokenizerParameters,
)
from curricle.errors import ConfigError, DataError
from curricle.pipelines.corpus.packer import Packer, best_fit_decreasing
from curricle.pipelines.corpus.packing import PackedArray, pack, pack_input_ids
from curricle.pipelines.corpus.rows import RowWriter
from curricle.pipelines.corpus.tokenizer import load_encoder, train_tokenizer

EOS, PAD = 0, 1


def curriculum(*stages: tuple[int, float], **more: object) -> PackParameters:
    listed = [{"seq_length": length, "share": share} for length, share in stages]
    return PackParameters.model_validate({"curriculum": listed, **more})


def lognormal_documents(seed: int, count: int) -> list[np.ndarray]:
    """Documents whose tokens number all tokens, so that each is recognised wherever it lands."""
    generator = np.random.default_rng(seed)
    sizes = np.clip(generator.lognormal(3.5, 1.4, count).astype(int), 1, 5000)
    ends = np.cumsum(sizes) + 2
    return [np.arange(e - s, e, dtype=np.int32) for s, e in zip(sizes, ends, strict=True)]


def segments_of(array: PackedArray) -> list[np.ndarray]:
    return [array.tokens[row, start : start + length] for row, start, length in array.segments]


@pytest.fixture
def tokenizer(documents: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    train_tokenizer(folder, documents, TokenizerParameters(vocab_size=512))
    return folder


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("window_tokens", [1, 20_000])
def test_packing_keeps_every_token_in_order(output: Path, seed: int, window_tokens: int) -> None:
    given = lognormal_documents(seed, 800)
    path = output / "train_64.npy"
    with RowWriter(path, 64, PAD) as writer:
        packer = Packer(writer, window_tokens)
        for tokens in given:
            packer.add(tokens)
        packer.finish(seed)
    array = PackedArray.open(path, eos_id=EOS)
    pieces = sorted(segments_of(array), key=lambda piece: piece[0])
    assert np.array_equal(np.concatenate(pieces), np.concatenate(given))
    # No piece crosses a document, and what fits in a row is whole.
    firsts = {int(tokens[0]): tokens for tokens in given}
    cut = [piece for piece in pieces if int(piece[0]) not in firsts]
    assert len(pieces) - len(cut) == len(given)
    for first, tokens in firsts.items():
        piece = next(piece for piece in pieces if piece[0] == first)
        assert len(piece) == min(len(tokens), 64)
    assert packer.report()["fill"] >= 0.99
    assert sorted(path.name for path in output.iterdir()) == [
        "train_64.npy",
        "train_64.segments.npy",
    ]


@pytest.mark.parametrize("seed", range(3))
def test_segments_tile_their_rows_and_positions_restart(output: Path, seed: int) -> None:
    path = output / "train_64.npy"
    with RowWriter(path, 64, PAD) as writer:
        packer = Packer(writer, 2000)
        for tokens in lognormal_documents(seed, 101):
            packer.add(tokens)
        packer.finish(seed)
    array = PackedArray.open(path, eos_id=EOS)
    assert array.tokens.dtype == np.int64 and array.segments.dtype == np.int32
    assert np.array_equal(array.segments, array.segments[np.lexsort(array.segments.T[1::-1])])
    batch = array.rows(np.arange(len(array)))
    for row in range(len(array)):
        end = 0
        for _, start, length in array.segments[array.segments[:, 0] == row]:
            assert start == end
            end = start + length
            assert np.array_equal(batch.position_ids[row, start:end], np.arange(length))
            assert batch.labels[row, start] == -100
            inside = slice(start + 1, end)
            assert np.array_equal(batch.labels[row, inside], batch.input_ids[row, inside])
        assert end > 0
        assert np.array_equal(batch.position_ids[row, end:], np.arange(64 - end))
        assert np.all(batch.labels[row, end:] == -100)
        assert np.all(batch.input_ids[row, end:] == PAD)


def test_best_fit_takes_the_fullest_row_that_has_room() -> None:
    pieces = [np.full(size, size, np.int32) for size in (2, 6, 3, 7, 1)]
    rows = best_fit_decreasing(pieces, 10)
    assert [[len(piece) for piece in row.pieces] for row in rows] == [[7, 3], [6, 2, 1]]
    assert [row.free for row in rows] == [0, 1]


def test_unlucky_lengths_are_written_all_the_same(output: Path) -> None:
    with RowWriter(output / "a.npy", 10, PAD) as writer:
        packer = Packer(writer, 1)
        for _ in range(500):
            packer.add(np.full(6, 5, np.int32))
            assert packer._waiting_tokens <= 640
        packer.finish(0)
    assert packer.report() | {"fill": 0} == {
        "documents": 500, "pieces": 500, "tokens": 3000, "rows": 500, "fill": 0
    }  # fmt: skip


def test_each_document_meets_one_context_length(
    documents: Path, tokenizer: Path, output: Path
) -> None:
    report = pack(output, documents, tokenizer, curriculum((32, 0.5), (64, 0.3), (128, 0.2)))
    encoder = load_encoder(tokenizer)
    texts = []
    for length in (32, 64, 128):
        array = PackedArray.open(output / f"train_{length}.npy", eos_id=EOS)
        assert report[f"train_{length}"]["rows"] == len(array)
        assert array.seq_length == length
        array.check_vocabulary(512)
        # Documents that fit in a row are found as a whole.
        texts += [encoder.decode(s[:-1]) for s in segments_of(array) if s[-1] == EOS]
    train = [json.loads(line) for line in (documents / "train.jsonl").open()]
    total = sum(len(encoder.encode(row["text"]).ids) + 1 for row in train)
    tokens = [report[f"train_{length}"]["tokens"] for length in (32, 64, 128)]
    assert sum(tokens) == total
    assert np.allclose(np.array(tokens) / total, [0.5, 0.3, 0.2], atol=0.02)
    assert len(texts) == 60
    assert report["heldout_128"]["documents"] == 6
    assert json.loads(json.dumps(report)) == report


def test_a_second_run_writes_the_same_bytes_and_another_seed_others(
    documents: Path, tokenizer: Path, output: Path
) -> None:
    parameters = curriculum((32, 0.5), (64, 0.5), window_tokens=3000)
    pack(output, documents, tokenizer, parameters)
    first = contents(output)
    (output / "train_32.npy").write_bytes(b"half a run")
    (output / "train_32.rows.tmp").write_bytes(b"half a run")
    pack(output, documents, tokenizer, parameters)
    assert contents(output) == first
    pack(output, documents, tokenizer, parameters.model_copy(update={"seed": 1}))
    assert contents(output) != first


def test_an_array_from_elsewhere_is_cut_at_end_of_text(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[5, 6, 0, 7, 0, 8], [5, 0, 0, 1, 1, 1]], np.uint16))
    array = PackedArray.open(tmp_path / "a.npy", eos_id=0, pad_id=1)
    batch = array.rows([0, 1])
    assert batch.input_ids.dtype == np.int64
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 1, 2]]
    assert batch.labels.tolist() == [
        [-100, 6, 0, -100, 0, -100],
        [-100, 0, -100, -100, -100, -100],
    ]
    assert array.rows([1, 0]).input_ids.tolist() == batch.input_ids[::-1].tolist()
    assert array.rows([-1]).labels.tolist() == batch.labels[1:].tolist()


def test_where_padding_is_end_of_text_the_second_in_a_run_is_padding(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[5, 6, 0, 0, 0], [0, 0, 5, 6, 7]], np.int64))
    batch = PackedArray.open(tmp_path / "a.npy", eos_id=0, pad_id=0).rows([0, 1])
    assert batch.labels.tolist() == [[-100, 6, 0, -100, -100], [-100, -100, -100, 6, 7]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1], [0, 0, 0, 1, 2]]


def test_without_a_padding_token_nothing_is_padding(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[5, 1, 1, 1]], np.int64))
    batch = PackedArray.open(tmp_path / "a.npy", eos_id=0).rows([0])
    assert batch.labels.tolist() == [[-100, 1, 1, 1]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(8, np.int64), r"shape \(8,\), but rows of tokens are \(rows, seq_length\)"),
        (np.zeros((2, 4), np.float32), r"dtype float32, but token ids are integers"),
        (np.zeros((0, 4), np.int64), r"shape \(0, 4\) holds no tokens"),
    ],
)
def test_an_array_that_is_no_rows_of_tokens_is_named(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(DataError, match=rf"bad\.npy: {message}"):
        PackedArray.open(tmp_path / "bad.npy", eos_id=0)


def test_a_file_that_is_no_array_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY but cut")
    with pytest.raises(DataError, match=r"bad\.npy: not a \.npy file"):
        PackedArray.open(tmp_path / "bad.npy", eos_id=0)
    with pytest.raises(DataError, match=r"none\.npy: no such file"):
        PackedArray.open(tmp_path / "none.npy", eos_id=0)


def test_a_sidecar_of_other_rows_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4), np.int64))
    np.save(tmp_path / "a.segments.npy", np.array([[0, 0, 4], [2, 0, 4]], np.int32))
    with pytest.raises(DataError, match=r"a\.segments\.npy: segment \[2, 0, 4\] lies outside"):
        PackedArray.open(tmp_path / "a.npy", eos_id=0)


@pytest.mark.parametrize("token", [512, -1])
def test_a_token_outside_the_vocabulary_is_named(tmp_path: Path, token: int) -> None:
    tokens = np.zeros((5, 4), np.int64)
    tokens[3, 2] = token
    np.save(tmp_path / "a.npy", tokens)
    with pytest.raises(DataError, match=rf"a\.npy: row 3 holds token {token}, outside .* 512"):
        PackedArray.open(tmp_path / "a.npy", eos_id=0).check_vocabulary(512)


def test_a_dataset_of_token_ids_goes_through_the_same_packer(
    tokenizer: Path, tmp_path: Path, output: Path
) -> None:
    rows = [list(range(10, 10 + size)) for size in range(5, 105)]
    rows[0].append(EOS)
    datasets.Dataset.from_dict({"input_ids": rows}).save_to_disk(tmp_path / "ids")
    ingest = IngestParameters.model_validate(
        {
            "sources": [{"kind": "hub", "path": f"{tmp_path}/ids", "input_ids_field": "input_ids"}],
            "heldout_share": 0.2,
        }
    )
    report = pack_input_ids(output, ingest, tokenizer, curriculum((32, 0.5), (64, 0.5)))
    tokens = sum(part["tokens"] for part in report.values())
    assert tokens == sum(map(len, rows)) + 99
    assert sum(part["documents"] for part in report.values()) == 100
    assert report["heldout_64"]["documents"] > 5


def test_token_ids_of_another_vocabulary_are_named(
    tokenizer: Path, tmp_path: Path, output: Path
) -> None:
    datasets.Dataset.from_dict({"ids": [[5, 6], [7, 600]]}).save_to_disk(tmp_path / "ids")
    source = {"kind": "hub", "path": f"{tmp_path}/ids", "input_ids_field": "ids"}
    ingest = IngestParameters.model_validate({"sources": [source]})
    with pytest.raises(DataError, match="row 2 holds a token outside the vocabulary of 512"):
        pack_input_ids(output, ingest, tokenizer, curriculum((32, 1.0)))
    text = IngestParameters(sources=(SourceParameters(kind="python_distribution"),))
    with pytest.raises(ConfigError, match="no `input_ids_field`"):
        pack_input_ids(output, text, tokenizer, curriculum((32, 1.0)))


def test_a_length_that_gets_no_document_is_an_error(
    documents: Path, tokenizer: Path, output: Path
) -> None:
    row = (documents / "train.jsonl").read_text().splitlines()[0]
    (documents / "train.jsonl").write_text(row + "\n")
    with pytest.raises(ConfigError, match="train_64: no document is left"):
        pack(output, documents, tokenizer, curriculum((32, 0.9), (64, 0.1)))
    assert not list(output.glob("*.tmp"))


def test_context_lengths_must_grow() -> None:
    with pytest.raises(ConfigError, match=r"curriculum: seq_length must grow .* \[64, 64\]"):
        curriculum((64, 0.5), (64, 0.5))


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ConfigError, match=r"curriculum: share must sum to 1, .* sum to 0\.9"):
        curriculum((32, 0.5), (64, 0.4))


def test_importing_the_builders_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    modules = "sources, cleaning, tokenizer, packing"
    heavy = "{'torch','transformers','datasets','datatrove','tokenizers','pandas','pyarrow'}"
    code = f"from curricle.pipelines.corpus import {modules}; import sys; "
    code += f"assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
