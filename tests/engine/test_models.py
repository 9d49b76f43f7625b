"""Architectures: exact sizes, and clear words for what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from curricle.engine.models import (
    architecture_config,
    count_parameters,
    init_job,
    load_model,
    load_tokenizer,
)
from curricle.errors import ConfigError, DataError
from tests.engine.conftest import OVERRIDES, MakeJob


def test_llama_7b_has_exactly_the_parameters_of_the_design() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture_config("llama_7b", {}))
    assert count_parameters(model) == 7_391_678_464
    assert model.config.max_position_embeddings == 2048


def test_the_same_seed_makes_the_same_model(
    make_job: MakeJob, tokenizer_folder: Path, initial: Path
) -> None:
    parameters = {"architecture": "llama_small", "overrides": OVERRIDES, "seed": 0}
    job = make_job("init", parameters, tokenizer=tokenizer_folder)
    init_job(job)
    weights = "model.safetensors"
    assert (job.output / weights).read_bytes() == (initial / weights).read_bytes()


def test_special_tokens_reach_the_model(initial: Path) -> None:
    tokenizer, config = load_tokenizer(initial), load_model(initial).config
    assert config.eos_token_id == tokenizer.eos_token_id == 0
    assert config.pad_token_id == tokenizer.pad_token_id == 1


def test_an_unknown_architecture_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'lama_7b' is unknown. Use llama_7b, llama_small"):
        architecture_config("lama_7b", {})


def test_a_mistyped_override_is_named() -> None:
    with pytest.raises(ConfigError, match=r"overrides\.hidden_sise"):
        architecture_config("llama_small", {"hidden_sise": 64})


def test_a_vocabulary_larger_than_the_embedding_is_refused(
    make_job: MakeJob, tokenizer_folder: Path
) -> None:
    overrides = {**OVERRIDES, "vocab_size": 300}
    parameters = {"architecture": "llama_small", "overrides": overrides, "seed": 0}
    with pytest.raises(ConfigError, match="512 entries, the embedding of llama_small 300"):
        init_job(make_job("init", parameters, tokenizer=tokenizer_folder))


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
