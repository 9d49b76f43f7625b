"""A corpus, a tokenizer and an untrained model, small enough to train in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import curricle
from curricle.config.corpus import ContextStage, PackParameters, TokenizerParameters
from curricle.engine.models import init_job
from curricle.launch.job import Job
from curricle.pipelines.corpus.packing import pack
from curricle.pipelines.corpus.tokenizer import train_tokenizer
from curricle.pipelines.sft.rows import write_rows

MakeJob = Callable[..., Job]

OVERRIDES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results depend on the number of threads, so tests pin it."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This package's own sources as documents."""
    folder = tmp_path_factory.mktemp("documents")
    sources = sorted(Path(curricle.__file__).parent.rglob("*.py"))
    rows = [
        {"id": path.name, "text": text, "kind": "code", "path": path.name, "source": "own"}
        for path in sources
        if (text := path.read_text())
    ]
    for name, part in (("train", rows[:-8]), ("heldout", rows[-8:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, documents, TokenizerParameters(vocab_size=512))
    return folder


@pytest.fixture(scope="session")
def packed(
    documents: Path, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    curriculum = (ContextStage(seq_length=32, share=0.5), ContextStage(seq_length=64, share=0.5))
    pack(folder, documents, tokenizer_folder, PackParameters(curriculum=curriculum))
    return folder


def describe_job(folder: Path, kind: str, parameters: dict[str, Any], **inputs: Path) -> Job:
    """A job whose result and trainer checkpoints go into a folder."""
    for part in ("result", "resume"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return Job(
        kind=kind, step=kind, inputs=inputs, parameters=parameters, precision="fp32",
        output=folder / "result", resume=folder / "resume", checkpoint_every_s=1e9, threads=1,
    )  # fmt: skip


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Return a function that describes a job with folders of its own."""

    def make(kind: str, parameters: dict[str, Any], name: str = "job", **inputs: Path) -> Job:
        return describe_job(tmp_path / name, kind, parameters, **inputs)

    return make


@pytest.fixture(scope="session")
def initial(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with its tokenizer."""
    folder = tmp_path_factory.mktemp("initial")
    parameters = {"architecture": "llama_small", "overrides": OVERRIDES, "seed": 0}
    init_job(Job(
        kind="init", step="init", inputs={"tokenizer": tokenizer_folder}, parameters=parameters,
        precision="fp32", output=folder, resume=folder,
    ))  # fmt: skip
    return folder


WORDS = "apple river stone cloud lemon tiger piano robot candle garden window bridge".split()


def asked(word: str) -> dict[str, str]:
    return {"role": "user", "content": f"Write {word}."}


def answered(word: str) -> dict[str, str]:
    return {"role": "assistant", "content": f"def {word}():\n    return {len(word)}"}


def refused(word: str) -> dict[str, str]:
    return {"role": "assistant", "content": f"I can't help with that: {word}."}


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations of one and two turns, and requests, of which each side is a half."""
    folder = tmp_path_factory.mktemp("chat")
    rows = [{"messages": [asked(word), answered(word)]} for word in WORDS]
    for first, second in zip(WORDS[::2], WORDS[1::2], strict=True):
        turns = [asked(first), answered(first), asked(second), answered(second)]
        rows.append({"messages": turns})
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "heldout.jsonl", rows[::3])
    write_rows(folder / "requests_heldout.jsonl", [
        {"prompt": f"Write {word}.", "unsafe": number % 2 == 0, "id": word}
        for number, word in enumerate(WORDS)
    ])  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs that prefer the function over the refusal; the same ones held out."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [
        {"prompt": [asked(word)], "chosen": [answered(word)], "rejected": [refused(word)]}
        for word in WORDS
    ]
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "heldout.jsonl", rows)
    return folder
