"""The plan counts what training would need."""

from __future__ import annotations

from typing import Any

import pytest

from curricle.config.architectures import ARCHITECTURES
from curricle.errors import ConfigError
from curricle.planning.plan import count_parameters, plan_stages
from tests.fabricated import specs

PARAMETERS: dict[str, Any] = {
    "pretrain": {
        "prepare": {"architecture": "llama_7b"},
        "train": {"tokens_per_step": 524_288, "max_steps": 1000},
    },
    "lora": {"train": {"r": 16, "batch_size": 8, "max_length": 512, "max_steps": None}},
    "corpus": {"pack": {"curriculum": [{"seq_length": 512}, {"seq_length": 2048}]}},
    "run": {"keep_checkpoints": 2},
}


def test_the_seven_billion_model_has_the_parameters_that_it_is_named_for() -> None:
    assert count_parameters(ARCHITECTURES["llama_7b"]) == 7_391_678_464


def test_full_training_keeps_sixteen_bytes_a_parameter() -> None:
    (plan,) = plan_stages(specs("pretrain"), PARAMETERS)
    assert plan.state_bytes == 16 * 7_391_678_464
    assert plan.tokens == 524_288_000
    assert plan.disk_bytes == (4 + 2 * 12) * 7_391_678_464


def test_an_adapter_needs_a_quarter_and_says_that_its_data_decides_the_steps() -> None:
    full, adapter = plan_stages(specs("pretrain", "lora"), PARAMETERS)
    assert adapter.trainable < full.trainable / 100
    assert adapter.state_bytes < full.state_bytes / 3.8
    assert adapter.steps is None
    assert adapter.tokens is None


def test_an_unknown_architecture_is_answered_with_the_nearest() -> None:
    parameters = {"pretrain": {"prepare": {"architecture": "llama7b"}, "train": {}}}
    with pytest.raises(ConfigError, match="did you mean llama_7b"):
        plan_stages(specs("pretrain"), parameters)
