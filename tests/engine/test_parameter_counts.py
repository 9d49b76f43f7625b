"""A plan counts, without torch, what the engine's libraries build."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from curricle.config.architectures import ARCHITECTURES
from curricle.planning.plan import count_lora_parameters, count_parameters


def test_the_count_is_that_of_the_model_that_transformers_makes() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**ARCHITECTURES["llama_small"]))
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert count_parameters(ARCHITECTURES["llama_small"]) == counted


def test_an_adapter_on_all_linear_layers_is_counted_as_peft_counts_it() -> None:
    fields = ARCHITECTURES["llama_small"]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**fields))
        adapted = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert count_lora_parameters(fields, rank=8) == trainable
