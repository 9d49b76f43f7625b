import json
from pathlib import Path

import pytest
from corpus_files import contents
from transformers import AutoTokenizer

from curricle.config.corpus import TokenizerParameters
from curricle.errors import ConfigError, DataError
from curricle.pipelines.corpus.tokenizer import load_encoder, train_tokenizer

ODD_TEXTS = [
    "",
    " ",
    "\t\tif x:\r\n\t\t\treturn 'tab'\r\n",
    "    def f(self):\n        return 1\n\n\n",
    "emoji \U0001f600, family \U0001f468\u200d\U0001f469\u200d\U0001f467, naïve, 日本語, \u202ea",
    "trailing spaces   \n   leading",
    "\x00\x01\x7f\ufeff",
    "12345.678e-9 0xFF",
    "what 's this , then ?  n't",
]


@pytest.fixture
def tokenizer(documents: Path, output: Path) -> Path:
    train_tokenizer(output, documents, TokenizerParameters(vocab_size=512))
    return output


def test_transformers_loads_it_with_its_special_tokens(tokenizer: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert len(loaded) == 512
    assert (loaded.eos_token_id, loaded.bos_token_id, loaded.pad_token_id) == (0, 0, 1)
    names = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    assert loaded.convert_tokens_to_ids(names) == [0, 1, 2, 3]
    assert loaded.encode("<|im_start|>ant<|im_end|>")[0] == 2


def test_encoding_adds_no_special_tokens(tokenizer: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert loaded("")["input_ids"] == []
    assert not set(loaded("ant bee")["input_ids"]) & {0, 1, 2, 3}


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_every_text_survives_the_round_trip(tokenizer: Path, text: str) -> None:
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert loaded.decode(loaded.encode(text)) == text
    encoder = load_encoder(tokenizer)
    ids = encoder.encode(text, add_special_tokens=False).ids
    assert encoder.decode(ids, skip_special_tokens=False) == text
    assert loaded.encode(text) == ids


def test_a_document_cannot_spell_a_special_token(tokenizer: Path) -> None:
    encoder = load_encoder(tokenizer)
    ids = encoder.encode("a<|endoftext|><|pad|>b", add_special_tokens=False).ids
    assert min(ids) > 3
    assert encoder.decode(ids) == "a<|endoftext|><|pad|>b"


def test_digits_are_single_and_indentation_stays_together(documents: Path, output: Path) -> None:
    with (documents / "train.jsonl").open("a") as file:
        code = "def f(x):\n        return x\n" * 200
        row = {"id": "code", "text": code, "kind": "code", "path": "a", "source": "b"}
        file.write(json.dumps(row) + "\n")
    train_tokenizer(output, documents, TokenizerParameters(vocab_size=512))
    encoder = load_encoder(output)
    assert len(encoder.encode("2026").ids) == 4
    # Seven spaces are one token; the eighth belongs to the word.
    assert encoder.encode("        return").tokens == ["Ġ" * 7, "Ġreturn"]


def test_a_second_run_writes_the_same_bytes(tokenizer: Path, documents: Path) -> None:
    first = contents(tokenizer)
    for _ in range(3):
        train_tokenizer(tokenizer, documents, TokenizerParameters(vocab_size=512))
        assert contents(tokenizer) == first


def test_the_sample_stays_below_its_cap(documents: Path, output: Path) -> None:
    size = (documents / "train.jsonl").stat().st_size
    report = train_tokenizer(
        output, documents, TokenizerParameters(vocab_size=300, sample_max_bytes=size // 3)
    )
    assert size // 8 < report["sample_bytes"] <= size // 3
    assert report["sample_documents"] < 60


def test_a_corpus_too_small_for_the_vocabulary_is_an_error(documents: Path, output: Path) -> None:
    with pytest.raises(ConfigError, match=r"vocab_size is 50304, but 60 .* give only \d+ tokens"):
        train_tokenizer(output, documents, TokenizerParameters(vocab_size=50304))
    assert list(output.iterdir()) == []


def test_a_missing_tokenizer_is_named(output: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: no such file"):
        load_encoder(output)
