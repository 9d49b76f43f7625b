"""Architectures by name, and checkpoints in and out.

One family, Llama, from a million parameters to seven billion: what works small is what runs large.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.config.architectures import ARCHITECTURES
from curricle.engine.hardware import device
from curricle.errors import ConfigError, DataError
from curricle.launch.job import Job, JobResult

logger = logging.getLogger(__name__)


def architecture_config(name: str, overrides: dict[str, Any]) -> LlamaConfig:
    """Return the Hugging Face configuration of a named architecture.

    Raises:
        ConfigError: the name, or a field to override, is unknown.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"pretrain.prepare.architecture={name!r} is unknown. Use {', '.join(ARCHITECTURES)}."
        )
    known = LlamaConfig().to_dict()
    for field in overrides:
        if field not in known:
            raise ConfigError(
                f"pretrain.prepare.overrides.{field}: no field of LlamaConfig. "
                f"Fields of {name}: {', '.join(ARCHITECTURES[name])}."
            )
    # Dropout stays off: DPO's reference and GRPO's old log-probabilities need equal passes.
    return LlamaConfig(
        **{**ARCHITECTURES[name], "attention_dropout": 0.0, "use_cache": False, **overrides}
    )


def init_job(job: Job) -> JobResult:
    """Make the untrained model: the architecture, seeded weights, and the tokenizer beside it."""
    parameters = job.parameters
    tokenizer = load_tokenizer(job.inputs["tokenizer"])
    overrides = {
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **parameters["overrides"],
    }
    config = architecture_config(parameters["architecture"], overrides)
    if len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"The tokenizer has {len(tokenizer)} entries, the embedding of "
            f"{parameters['architecture']} {config.vocab_size}. Lower corpus.tokenizer.vocab_size "
            f"or set pretrain.prepare.overrides.vocab_size."
        )
    torch.manual_seed(parameters["seed"])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    save_checkpoint(model, tokenizer, job.output)
    return JobResult(effective={"parameters": count_parameters(model)})


def count_parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a stored folder.

    Raises:
        DataError: there is none.
    """
    if not (folder / "tokenizer_config.json").exists():
        raise DataError(f"{folder} holds no tokenizer (tokenizer_config.json is missing)")
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_model(folder: Path) -> PreTrainedModel:
    """Load a checkpoint's weights in fp32 onto this process's device.

    ``use_cache`` is off: with a cache, transformers ignores the document boundaries of a packed
    row and attention leaks across them.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    model.config.use_cache = False
    return model.to(device())


def save_checkpoint(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (safetensors), configuration, tokenizer and chat template."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
