"""LoRA: an adapter on a model, merged in fp32 with a proof that nothing changed.

Every stage that may train an adapter comes through here: ``adapter_arguments`` before its trainer
is made, ``save_trained`` after it.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.config.training import AdapterShape, LoraParameters
from curricle.engine.agent_rows import attach_template
from curricle.engine.models import load_model, load_tokenizer, save_checkpoint
from curricle.engine.post_training import (
    in_force,
    packed_conversations,
    sft_trainer,
    write_curve,
)
from curricle.engine.trainers import PackedSFTTrainer, train
from curricle.errors import ConfigError
from curricle.launch.job import Job, JobResult

ADAPTER_FOLDER = "adapter"


def lora_job(job: Job) -> JobResult:
    """Train an adapter, save it, merge it, and save the merged checkpoint."""
    parameters = LoraParameters(**job.parameters)
    tokenizer = load_tokenizer(job.inputs["start"])
    attach_template(tokenizer, parameters)
    rows, effective = packed_conversations(tokenizer, job, parameters)

    def make_trainer(micro_batch: int) -> PackedSFTTrainer:
        model = load_model(job.inputs["start"])
        return sft_trainer(
            job, parameters, model, tokenizer, rows,
            micro_batch=micro_batch,
            **adapter_arguments(model, parameters, job.step),
        )  # fmt: skip

    trainer, curve, measured = train(job, parameters, make_trainer)
    trained = save_trained(trainer, tokenizer, job)
    write_curve(job.output, curve)
    return JobResult(effective={**effective, **trained}, measured=measured)


def adapter_arguments(
    model: PreTrainedModel, shape: AdapterShape | None, step: str
) -> dict[str, Any]:
    """Return what a trainer is given to train an adapter; nothing without a shape.

    Raises:
        ConfigError: a target matches nothing.
    """
    if shape is None:
        return {}
    check_targets(model, shape, step)
    return {"peft_config": apply_lora_config(shape)}


def save_trained(trainer: Any, tokenizer: Tokenizer, job: Job) -> dict[str, Any]:
    """Save what was trained as a whole checkpoint; an adapter is saved, then merged.

    Returns:
        What was in force.
    """
    trained, model = in_force(job, trainer), trainer.model
    if isinstance(model, PeftModel):
        trained |= adapted_modules(model)
        save_adapter(model, job)
        model = model.merge_and_unload(safe_merge=True)
    save_checkpoint(model, tokenizer, job.output)
    return trained


def check_targets(model: PreTrainedModel, shape: AdapterShape, step: str) -> None:
    """Make sure that every target names something in the model.

    PEFT only objects when none does: a mistyped module beside a right one, or an expert parameter
    that is not there, would go without an adapter and without a word.

    Raises:
        ConfigError: a target matches nothing; names it and what there is.
    """
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    names = {
        "target_modules": [name for name, _ in model.named_modules()],
        "target_parameters": [name for name, _ in model.named_parameters()],
    }
    for field, present in names.items():
        targets = getattr(shape, field) or []
        if isinstance(targets, str):  # all-linear, or one pattern for whole names, as PEFT reads it
            found = targets == "all-linear" or any(re.fullmatch(targets, n) for n in present)
            missing = [] if found else [targets]
        else:
            missing = [t for t in targets if not any(f".{n}".endswith(f".{t}") for n in present)]
        if missing:
            known = sorted({n.rpartition(".")[2] for n in linear})
            raise ConfigError(
                f"{step}.{field}: {', '.join(missing)} matches nothing in the model. "
                f"Use all-linear, or some of its linear modules: {', '.join(known)}."
            )
    if not (shape.target_modules or shape.target_parameters):
        raise ConfigError(f"{step}.target_modules is empty: nothing would be trained")


def apply_lora_config(shape: AdapterShape) -> LoraConfig:
    """Return PEFT's configuration; no dropout, which expert parameters do not support."""
    return LoraConfig(
        r=shape.r,
        lora_alpha=shape.lora_alpha,
        lora_dropout=0.0,
        target_modules=shape.target_modules,
        target_parameters=shape.target_parameters,
        task_type="CAUSAL_LM",
    )


def save_adapter(model: PeftModel, job: Job) -> None:
    """Save the adapter alone, beside the merged checkpoint."""
    for config in model.peft_config.values():
        # The base's folder is another on every machine; the manifest names the base by its digest.
        config.base_model_name_or_path = ""  # PEFT would fill in the folder for None
        if isinstance(config.target_modules, set):  # written in an order that changes by process
            config.target_modules = sorted(config.target_modules)
    model.save_pretrained(job.output / ADAPTER_FOLDER)
    (job.output / ADAPTER_FOLDER / "README.md").unlink(missing_ok=True)


def adapted_modules(model: PeftModel) -> dict[str, Any]:
    """Count what the adapter trains."""
    names = sorted({n.split(".lora_")[0].rpartition(".")[2]
                    for n, p in model.named_parameters() if p.requires_grad})  # fmt: skip
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert count, "check_targets refuses targets that match nothing"
    return {"adapted_modules": names, "trainable_parameters": count}


def merge_logit_difference(
    start: PreTrainedModel, adapter_folder: Any, merged: PreTrainedModel, input_ids: torch.Tensor
) -> float:
    """Return the largest difference between the logits of the merged and the adapted model.

    Args:
        start: the model below the adapter; it gets the adapter attached.
        adapter_folder: what ``save_adapter`` wrote.
        merged: the merged model.
        input_ids: (batch, seq).
    """
    adapted = PeftModel.from_pretrained(start, adapter_folder)
    with torch.no_grad():
        first = adapted(input_ids=input_ids, use_cache=False).logits
        second = merged(input_ids=input_ids, use_cache=False).logits
    return float((first - second).abs().max())
