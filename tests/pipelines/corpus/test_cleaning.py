import json
import random
from pathlib import Path

import numpy as np
import pytest
from corpus_files import contents, document, read_jsonl, sentence, write_jsonl

from curricle.config.corpus import CleanParameters
from curricle.errors import DataError
from curricle.pipelines.corpus.cleaning import clean
from curricle.pipelines.corpus.ngrams import NgramIndex, ngram_hashes


def run(folder: Path, output: Path, **more: object) -> dict[str, dict[str, object]]:
    return clean(output, folder, CleanParameters.model_validate(more))


def add(folder: Path, *rows: dict[str, str], side: str = "train") -> None:
    path = folder / f"{side}.jsonl"
    write_jsonl(path, [*read_jsonl(path), *rows])


def ids(output: Path, side: str = "train") -> set[str]:
    return {row["id"] for row in read_jsonl(output / f"{side}.jsonl")}


def text(seed: int, words: int = 300) -> str:
    return sentence(random.Random(seed), words)


def test_good_documents_pass_unchanged_and_in_order(documents: Path, output: Path) -> None:
    report = run(documents, output)
    for side in ("train", "heldout"):
        assert read_jsonl(output / f"{side}.jsonl") == read_jsonl(documents / f"{side}.jsonl")
    assert sum(report["train"]["dropped"].values()) == 0
    assert json.loads(json.dumps(report)) == report
    assert sorted(path.name for path in output.iterdir()) == ["heldout.jsonl", "train.jsonl"]


def test_a_second_run_writes_the_same_bytes_over_leftovers(documents: Path, output: Path) -> None:
    add(documents, document("copy", text(1)), document("copied", text(1) + " end"))
    run(documents, output)
    first = contents(output)
    (output / "train.jsonl").write_text("half a run")
    (output / "work").mkdir()
    (output / "work" / "leftover").write_text("half a run")
    run(documents, output)
    assert contents(output) == first


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("too_short", document("bad", "word")),
        ("long_line", document("bad", "x = '" + "ab " * 500 + "'\n", "code")),
        ("long_mean_line", document("bad", ("name = '" + "ab " * 60 + "'\n") * 3, "code")),
        ("few_letters", document("bad", "([{<*=-+/>}])\n" * 20, "code")),
        ("hex_table", document("bad", "0x1f, 0x2e, 0x3d,\n" * 20, "code")),
        ("dup_para_frac", document("bad", "The same words in a paragraph.\n\n" * 20)),
        ("duplicated_10_n_grams", document("bad", f"{text(1, 30)} a {text(1, 30)} b")),
    ],
)
def test_a_bad_document_is_dropped_and_counted(
    documents: Path, output: Path, reason: str, row: dict[str, str]
) -> None:
    add(documents, row)
    report = run(documents, output)
    assert report["train"]["dropped"][reason] == 1
    assert "bad" not in ids(output)


def test_code_may_repeat_itself(documents: Path, output: Path) -> None:
    add(documents, document("code", "    self.assertTrue(value)\n" * 30, "code"))
    run(documents, output)
    assert "code" in ids(output)


def test_of_exact_duplicates_the_first_stays(documents: Path, output: Path) -> None:
    add(documents, document("one", text(1)), document("two", text(1)))
    report = run(documents, output)
    assert report["train"]["dropped"]["exact_duplicate"] == 1
    assert ids(output) & {"one", "two"} == {"one"}


def test_of_near_duplicates_one_stays(documents: Path, output: Path) -> None:
    changed = text(1).split()
    changed[150] = "changed"
    add(documents, document("one", text(1)), document("two", " ".join(changed)))
    report = run(documents, output)
    assert report["train"]["dropped"]["near_duplicate"] == 1
    assert len(ids(output) & {"one", "two"}) == 1


def test_a_train_document_that_is_mostly_held_out_goes(documents: Path, output: Path) -> None:
    add(documents, document("held", text(1)), side="heldout")
    quoted = " ".join(text(1).split()[:100])
    add(documents, document("leak", f"{text(2, 200)} {quoted}"), document("held copy", text(1)))
    report = run(documents, output)
    assert report["train"]["dropped"]["contaminated"] == 1
    assert report["train"]["dropped"]["exact_duplicate"] == 1
    assert not ids(output) & {"leak", "held copy"}
    assert "held" in ids(output, "heldout")


def test_a_held_out_document_inside_a_large_train_document_goes(
    documents: Path, output: Path
) -> None:
    add(documents, document("held", text(1, 60)), side="heldout")
    add(documents, document("large", f"{text(2, 2000)} {text(1, 60)} {text(3, 2000)}"))
    report = run(documents, output)
    assert "large" in ids(output)
    assert "held" not in ids(output, "heldout")
    assert report["heldout"]["dropped"]["contaminated"] == 1
    assert report["heldout_ngrams_in_train"] == 48


def test_what_other_stages_are_measured_by_is_not_learned_from(
    documents: Path, output: Path
) -> None:
    other = write_jsonl(documents / "other.jsonl", [document("task", text(1))])
    add(documents, document("leak", text(1)))
    clean(output, documents, CleanParameters(), [other])
    assert "leak" not in ids(output)
    assert len(ids(output)) == 60
    assert len(ids(output, "heldout")) == 6


def test_a_shared_sentence_is_no_contamination(documents: Path, output: Path) -> None:
    licence = text(9, 20)
    add(documents, document("held", f"{licence} {text(1)}"), side="heldout")
    add(documents, document("train", f"{licence} {text(2)}"))
    run(documents, output)
    assert "train" in ids(output)
    assert "held" in ids(output, "heldout")


def test_ngrams_ignore_case_punctuation_and_numbers() -> None:
    plain = ngram_hashes("the cat sat on mat 7", 3)
    assert len(plain) == 4
    assert np.array_equal(ngram_hashes("The cat, sat: on (mat) 1234!", 3), plain)
    assert not np.array_equal(ngram_hashes("the sat cat on mat 7", 3), plain)


def test_documents_without_words_pass_through_every_step(documents: Path, output: Path) -> None:
    drawing = "".join(chr(0x2500 + number) for number in range(80))
    write_jsonl(documents / "train.jsonl", [document("drawing", drawing)])
    run(documents, output)
    assert ids(output) == {"drawing"}


def test_a_text_shorter_than_an_ngram_is_one_run() -> None:
    assert len(ngram_hashes("two words", 13)) == 1
    assert len(ngram_hashes("... --- ...", 13)) == 0


def test_an_empty_index_finds_nothing() -> None:
    index = NgramIndex(np.empty(0, np.uint64), 13)
    assert index.share(index.find("some words")) == 0.0


@pytest.mark.parametrize("side", ["train", "heldout"])
def test_a_side_without_a_good_document_is_an_error(
    documents: Path, output: Path, side: str
) -> None:
    write_jsonl(documents / f"{side}.jsonl", [document("short", "word")])
    with pytest.raises(DataError, match=rf"{side}\.jsonl: cleaning left nothing.*'too_short': 1"):
        run(documents, output)


def test_a_missing_or_edited_input_is_named(documents: Path, output: Path) -> None:
    with (documents / "train.jsonl").open("a") as file:
        file.write('{"id": "cut sho')
    with pytest.raises(DataError, match=r"train\.jsonl: row 61 is no document"):
        run(documents, output)
    (documents / "heldout.jsonl").unlink()
    with pytest.raises(DataError, match=r"heldout\.jsonl: no such file"):
        run(documents, output)
