"""SFT and DPO jobs: stored rows in, a checkpoint and its curve out."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast as Tokenizer
from trl import DPOConfig, SFTConfig

from curricle.config.training import DpoParameters, SftParameters
from curricle.engine.agent_rows import attach_template, take_samples
from curricle.engine.document_attention import use_document_attention
from curricle.engine.fast_paths import use_fast_paths
from curricle.engine.fitting import fit_rows
from curricle.engine.models import load_model, load_tokenizer, save_checkpoint
from curricle.engine.pretraining import CURVE_NAME, open_packed, packed_arrays
from curricle.engine.rendering import Rendered, attach_chat_template, render_prompt
from curricle.engine.trainers import (
    PackedSFTTrainer,
    PairDPOTrainer,
    train,
    trainer_arguments,
    training_steps,
)
from curricle.errors import ConfigError, DataError
from curricle.launch.job import Job, JobResult
from curricle.pipelines.corpus.packed import IGNORED
from curricle.pipelines.sft.rows import read_rows

logger = logging.getLogger(__name__)


def sft_job(job: Job) -> JobResult:
    """Fine-tune on the assistant's tokens of packed conversations."""
    parameters = SftParameters(**job.parameters)
    tokenizer = load_tokenizer(job.inputs["start"])
    attach_template(tokenizer, parameters)
    rows, effective = packed_conversations(tokenizer, job, parameters)

    def make_trainer(micro_batch: int) -> PackedSFTTrainer:
        return sft_trainer(job, parameters, load_model(job.inputs["start"]), tokenizer, rows,
                           micro_batch=micro_batch)  # fmt: skip

    trainer, curve, measured = train(job, parameters, make_trainer)
    save_checkpoint(trainer.model, tokenizer, job.output)
    write_curve(job.output, curve)
    return JobResult(effective={**effective, **in_force(job, trainer)}, measured=measured)


def sft_trainer(
    job: Job,
    parameters: SftParameters,
    model: Any,
    tokenizer: Tokenizer,
    rows: Dataset,
    *,
    micro_batch: int,
    **kwargs: Any,
) -> PackedSFTTrainer:
    """Return the trainer of packed rows; ``kwargs`` carry the adapter's configuration."""
    steps = training_steps(parameters, len(rows))
    arguments = SFTConfig(
        **trainer_arguments(parameters, job, micro_batch, steps),
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
    )
    collator = PackedRows(parameters.max_length, tokenizer.pad_token_id)
    use_document_attention(model)
    trainer = PackedSFTTrainer(
        parameters, model=model, args=arguments, train_dataset=rows, processing_class=tokenizer,
        data_collator=collator, **kwargs,
    )  # fmt: skip
    use_fast_paths(trainer.model)
    return trainer


def packed_conversations(
    tokenizer: Tokenizer, job: Job, parameters: SftParameters
) -> tuple[Dataset, dict[str, Any]]:
    """Render, mask and pack the training conversations, and mix in pretraining rows.

    Returns:
        Rows with ``input_ids``, ``labels`` (-100 where there is no loss) and ``seq_lengths``,
        and what to record: samples, tokens, fill.

    Raises:
        DataError: no conversation is short enough.
    """
    samples, counts = take_samples(
        tokenizer, job.inputs["data"] / "train.jsonl", parameters, job.step
    )
    groups = fit_rows([len(sample) for sample in samples], parameters.max_length)
    packed = [_packed_row([samples[index] for index in group]) for group in groups]
    tokens = sum(len(s) for s in samples)
    trained = sum(int(s.assistant_mask.sum()) for s in samples)
    if not trained or any(s.assistant_mask.all() for s in samples):
        raise DataError(
            f"{job.step}: the loss would fall on {trained} of {tokens} tokens. "
            "Check the chat template's generation markers."
        )
    recorded = {
        **counts,
        "packed_rows": len(packed),
        "fill": round(tokens / (len(packed) * parameters.max_length), 4),
        "assistant_token_share": round(trained / tokens, 4),
    }
    replayed = _replay_rows(tokenizer, job, parameters, len(packed))
    return Dataset.from_list([*packed, *replayed]), {**recorded, "replayed_rows": len(replayed)}


@dataclass(frozen=True)
class PackedRows:
    """Collates packed rows: positions restart with every sample, padding has no label.

    Attributes:
        length: tokens of a row in the batch.
        pad_id: fills what is left of a row.
    """

    length: int
    pad_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``labels`` and ``position_ids``, each (rows, length)."""
        shape = (len(rows), self.length)
        input_ids = np.full(shape, self.pad_id, dtype=np.int64)
        labels = np.full(shape, IGNORED, dtype=np.int64)
        positions = np.zeros(shape, dtype=np.int64)
        for number, row in enumerate(rows):
            used = len(row["input_ids"])
            input_ids[number, :used] = row["input_ids"]
            labels[number, :used] = row["labels"]
            pieces = [*row["seq_lengths"], self.length - used]
            positions[number] = np.concatenate([np.arange(piece) for piece in pieces])
        return {
            "input_ids": torch.from_numpy(input_ids),
            "labels": torch.from_numpy(labels),
            "position_ids": torch.from_numpy(positions),
        }


def dpo_job(job: Job) -> JobResult:
    """Optimise preferences; the reference is the checkpoint that the stage starts from."""
    parameters = DpoParameters(**job.parameters)
    tokenizer = load_tokenizer(job.inputs["start"])
    attach_chat_template(tokenizer)
    pairs, effective = preference_pairs(tokenizer, job.inputs["data"] / "train.jsonl", parameters)

    def make_trainer(micro_batch: int) -> PairDPOTrainer:
        return pair_trainer(job, parameters, load_model(job.inputs["start"]), tokenizer, pairs,
                            micro_batch=micro_batch)  # fmt: skip

    trainer, curve, measured = train(job, parameters, make_trainer)
    save_checkpoint(trainer.model, tokenizer, job.output)
    write_curve(job.output, curve)
    return JobResult(effective={**effective, **in_force(job, trainer)}, measured=measured)


def pair_trainer(
    job: Job,
    parameters: DpoParameters,
    model: Any,
    tokenizer: Tokenizer,
    pairs: Dataset,
    *,
    micro_batch: int,
    **kwargs: Any,
) -> PairDPOTrainer:
    """Return the trainer of preference pairs; ``kwargs`` carry an adapter's configuration."""
    loss_types = [parameters.loss_type] + ["sft"] * (parameters.sft_weight > 0)
    steps = training_steps(parameters, len(pairs))
    arguments = DPOConfig(
        **trainer_arguments(parameters, job, micro_batch, steps),
        beta=parameters.beta,
        loss_type=loss_types,
        loss_weights=[1.0, parameters.sft_weight][: len(loss_types)],
        max_length=parameters.max_length,
        precompute_ref_log_probs=True,
        train_sampling_strategy="group_by_length",
        length_column_name="length",
        # The sampler needs the length, which is no input of the model.
        remove_unused_columns=False,
    )
    use_document_attention(model)
    trainer = PairDPOTrainer(
        parameters, model=model, args=arguments, train_dataset=pairs, processing_class=tokenizer,
        **kwargs,
    )  # fmt: skip
    use_fast_paths(trainer.model)
    return trainer


def preference_pairs(
    tokenizer: Tokenizer, path: Path, parameters: DpoParameters
) -> tuple[Dataset, dict[str, Any]]:
    """Read pairs, drop those that are too long, and say how many.

    Raises:
        DataError: a row prefers an answer over itself or spells a special token, or none is short
            enough.
    """
    kept, dropped = [], 0
    for number, row in read_rows(path):
        if row["chosen"] == row["rejected"]:
            raise DataError(
                f"{path.name}, row {number}: chosen and rejected are identical, so there is "
                f"nothing to prefer. Remove the row."
            )
        where = f"{path.name}, row {number}"
        length = max(
            len(render_prompt(tokenizer, row["prompt"] + row[answer], where))
            for answer in ("chosen", "rejected")
        )
        if length > parameters.max_length:
            dropped += 1
            continue
        kept.append({k: row[k] for k in ("prompt", "chosen", "rejected")} | {"length": length})
    if not kept:
        raise DataError(
            f"{path}: none of {dropped} pairs has at most max_length={parameters.max_length} "
            f"tokens. Raise dpo.train.max_length."
        )
    return Dataset.from_list(kept), {"pairs": len(kept), "dropped_too_long": dropped}


def write_curve(folder: Path, curve: list[dict[str, float]]) -> None:
    """Write the training curve beside the checkpoint, a JSON object per step."""
    (folder / CURVE_NAME).write_text("".join(json.dumps(point) + "\n" for point in curve))


def _packed_row(samples: list[Rendered]) -> dict[str, list[int]]:
    labels = [np.where(s.assistant_mask, s.input_ids, IGNORED) for s in samples]
    return {
        "input_ids": np.concatenate([s.input_ids for s in samples]).tolist(),
        "labels": np.concatenate(labels).tolist(),
        "seq_lengths": [len(s) for s in samples],
    }


def _replay_rows(
    tokenizer: Tokenizer, job: Job, parameters: SftParameters, conversations: int
) -> list[dict[str, Any]]:
    """Draw as many pretraining rows as ``replay_share`` asks for; all their tokens are trained."""
    if not parameters.replay_share:
        return []
    paths = packed_arrays(job.inputs["replay"])
    fitting = [length for length in paths if length <= parameters.max_length]
    if not fitting:
        raise ConfigError(
            f"{job.step}: replay_share={parameters.replay_share} needs packed rows of at most "
            f"max_length={parameters.max_length} tokens; the corpus has {sorted(paths)}."
        )
    packed = open_packed(paths[max(fitting)], tokenizer)
    share = parameters.replay_share
    wanted = min(len(packed), round(conversations * share / (1 - share)))
    generator = np.random.default_rng(parameters.seed)
    batch = packed.rows(np.sort(generator.permutation(len(packed))[:wanted]))
    return [
        {
            "input_ids": batch.input_ids[row].tolist(),
            "labels": batch.labels[row].tolist(),
            "seq_lengths": np.diff(
                np.append(np.flatnonzero(batch.position_ids[row] == 0), batch.input_ids.shape[1])
            ).tolist(),
        }
        for row in range(wanted)
    ]


def in_force(job: Job, trainer: Any) -> dict[str, Any]:
    """Return what was in force; the precision was seen in training."""
    model = trainer.model
    return {
        "precision": job.precision,
        "attention": model.config._attn_implementation,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "steps": trainer.state.global_step,
    }
