"""Pretraining over a context curriculum: short rows first, then longer ones.

A loop of our own, and a short one, because the optimizer and one learning-rate schedule are
carried across the context lengths; a trainer per length would restart both. Tokens per step stay
constant, so a step means the same at every length.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from curricle.config.training import PretrainParameters
from curricle.engine.hardware import device
from curricle.engine.models import count_parameters, load_model, load_tokenizer, save_checkpoint
from curricle.engine.objectives import summed_loss
from curricle.engine.precision import autocast
from curricle.engine.products import use_dense_products
from curricle.engine.recovery import (
    OOMHandler,
    newest_valid_checkpoint,
    rotate_checkpoints,
    seal_checkpoint,
)
from curricle.engine.schedule import build_optimizer, learning_rate_share
from curricle.engine.tracking import tracked
from curricle.errors import ConfigError, DataError, Interrupted
from curricle.launch.job import Job, JobResult
from curricle.launch.signals import stop_on_signal
from curricle.pipelines.corpus.packed import IGNORED, PackedArray

logger = logging.getLogger(__name__)

CURVE_NAME = "curve.jsonl"


@dataclass(frozen=True)
class ContextStage:
    """One context length: its rows, and the order in which steps take them.

    Attributes:
        seq_length: tokens of a row.
        packed: the rows.
        steps: row indices of each step.
    """

    seq_length: int
    packed: PackedArray
    steps: list[np.ndarray]


def pretrain_job(job: Job) -> JobResult:
    """Train the initial model on the packed corpus, and save the last state."""
    parameters = PretrainParameters(**job.parameters)
    tokenizer = load_tokenizer(job.inputs["start"])
    stages = context_curriculum(job.inputs["data"], parameters, tokenizer)
    oom = OOMHandler(_micro_batch(stages, parameters), parameters.oom_recovery)
    while True:
        model = load_model(job.inputs["start"])
        if stages[-1].seq_length > model.config.max_position_embeddings:
            raise ConfigError(
                f"corpus.pack.curriculum reaches {stages[-1].seq_length} tokens, the model only "
                f"{model.config.max_position_embeddings}. Set "
                f"pretrain.prepare.overrides.max_position_embeddings, or shorten the curriculum."
            )
        for stage in stages:
            stage.packed.check_vocabulary(model.config.vocab_size)
        trainer = Pretrainer(model, stages, parameters, job)
        try:
            curve, tokens_per_s = trainer.run(oom.micro_batch)
            break
        except (RuntimeError, MemoryError) as error:
            oom.shrink(error)
    save_checkpoint(model, tokenizer, job.output)
    lines = "".join(json.dumps(point) + "\n" for point in curve)
    (job.output / CURVE_NAME).write_text(lines)
    return JobResult(
        effective={
            "precision": job.precision,
            "attention": model.config._attn_implementation,
            "parameters": count_parameters(model),
            "steps": len(curve),
        },
        measured={"tokens_per_s": tokens_per_s, "micro_batch": oom.micro_batch},
    )


def context_curriculum(
    folder: Path, parameters: PretrainParameters, tokenizer: Any
) -> list[ContextStage]:
    """Open the packed arrays of a corpus, shortest context first, and lay out their steps.

    Raises:
        DataError: there is no packed array.
        ConfigError: a step is shorter than one row of the longest context.
    """
    paths = packed_arrays(folder)
    if not paths:
        raise DataError(f"{folder} holds no train_<seq_length>.npy. Run the corpus pipeline first.")
    if max(paths) > parameters.tokens_per_step:
        raise ConfigError(
            f"pretrain.train.tokens_per_step={parameters.tokens_per_step} is less than one row of "
            f"the longest context, {max(paths)} tokens."
        )
    stages = []
    for number, (seq_length, path) in enumerate(sorted(paths.items())):
        packed = PackedArray.open(
            path, eos_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id
        )
        generator = np.random.default_rng((parameters.seed, number))
        rows_per_step = parameters.tokens_per_step // seq_length
        steps = [
            order[start : start + rows_per_step]
            for order in (generator.permutation(len(packed)) for _ in range(parameters.epochs))
            for start in range(0, len(order), rows_per_step)
        ]
        stages.append(ContextStage(seq_length, packed, steps))
    total = sum(len(stage.steps) for stage in stages)
    if parameters.max_steps is None or total <= parameters.max_steps:
        return stages
    share = parameters.max_steps / total
    return [
        ContextStage(s.seq_length, s.packed, s.steps[: max(1, int(len(s.steps) * share))])
        for s in stages
    ]


def open_packed(path: Path, tokenizer: Any) -> PackedArray:
    """Open a packed array with the special tokens of a tokenizer."""
    return PackedArray.open(path, eos_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id)


def packed_arrays(folder: Path) -> dict[int, Path]:
    """Return the training arrays of a packed corpus by their context length."""
    return {
        int(path.stem.rpartition("_")[2]): path
        for path in sorted(folder.glob("train_*.npy"))
        if not path.name.endswith(".segments.npy")
    }


def _micro_batch(stages: list[ContextStage], parameters: PretrainParameters) -> int:
    """Return the rows of the longest context in one forward pass."""
    whole_step = max(1, parameters.tokens_per_step // stages[-1].seq_length)
    return min(parameters.per_device_train_batch_size or whole_step, whole_step)


class Pretrainer:
    """The loop, and the state that a checkpoint holds: weights, moments, step and curve."""

    def __init__(
        self,
        model: PreTrainedModel,
        stages: list[ContextStage],
        parameters: PretrainParameters,
        job: Job,
    ) -> None:
        use_dense_products(model)
        self.model = model
        self.stages = stages
        self.parameters = parameters
        self.job = job
        self.steps = sum(len(stage.steps) for stage in stages)
        self.optimizer = build_optimizer(
            model,
            parameters.learning_rate,
            parameters.weight_decay,
            (parameters.adam_beta1, parameters.adam_beta2),
        )
        self.curve: list[dict[str, float]] = []
        self._restore()

    def run(self, micro_batch: int) -> tuple[list[dict[str, float]], float]:
        """Take the steps that are left; return the whole curve, and tokens per second of these.

        Args:
            micro_batch: rows of the longest context in one forward pass; shorter contexts take
                as many more as hold the same number of tokens.

        Raises:
            Interrupted: a signal arrived; the state is saved.
        """
        self.model.train()
        done = len(self.curve)
        longest = self.stages[-1].seq_length
        saved_at = started = time.monotonic()
        tokens = 0
        progress = tqdm(total=self.steps, initial=done, desc=self.job.step, unit="step",
                        disable=None)  # fmt: skip
        with stop_on_signal() as stop, tracked(self.job) as tracker, progress:
            for step, (stage, rows) in enumerate(self._plan()):
                if step < done:
                    continue
                point = self._step(step, stage, rows, micro_batch * longest // stage.seq_length)
                self.curve.append(point)
                tracker.log(point)
                tokens += int(point["tokens"])
                progress.update()
                progress.set_postfix(loss=f"{point['loss']:.3f}", context=stage.seq_length)
                if stop or time.monotonic() - saved_at > self.job.checkpoint_every_s:
                    self._save()
                    saved_at = time.monotonic()
                if stop:
                    raise Interrupted(
                        f"{self.job.step}: stopped by {stop.signal_name} after step {step + 1} of "
                        f"{self.steps}, which is saved. The same command continues from there.",
                        stop.signal_name,
                    )
        return self.curve, round(tokens / (time.monotonic() - started), 1) if tokens else 0.0

    def _plan(self) -> Iterator[tuple[ContextStage, np.ndarray]]:
        for stage in self.stages:
            for rows in stage.steps:
                yield stage, rows

    def _step(
        self, step: int, stage: ContextStage, rows: np.ndarray, rows_per_pass: int
    ) -> dict[str, float]:
        parameters = self.parameters
        rate = parameters.learning_rate * learning_rate_share(
            step,
            self.steps,
            parameters.lr_scheduler_type,
            parameters.warmup_share,
            parameters.min_lr_share,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = stage.packed.rows(rows)
        labelled = int((batch.labels[:, 1:] != IGNORED).sum())
        loss = 0.0
        for start in range(0, len(rows), rows_per_pass):
            part = slice(start, start + rows_per_pass)
            inputs = {
                "input_ids": torch.from_numpy(batch.input_ids[part]).to(device()),
                "position_ids": torch.from_numpy(batch.position_ids[part]).to(device()),
                "labels": torch.from_numpy(batch.labels[part]).to(device()),
            }
            with autocast(self.job.precision):
                part_loss = summed_loss(self.model, inputs) / max(1, labelled)
            part_loss.backward()
            loss += part_loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), parameters.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "step": step + 1,
            "seq_length": stage.seq_length,
            "tokens": labelled,
            "loss": loss,
            "learning_rate": rate,
            "grad_norm": float(norm),
        }

    def _save(self) -> None:
        folder = self.job.resume / f"checkpoint-{len(self.curve)}"
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": self.curve,
        }
        torch.save(state, folder / "state.pt")
        seal_checkpoint(folder, len(self.curve), {"precision": self.job.precision})
        rotate_checkpoints(self.job.resume, self.job.keep_checkpoints)

    def _restore(self) -> None:
        checkpoint = newest_valid_checkpoint(self.job.resume)
        if checkpoint is None:
            return
        state = torch.load(checkpoint / "state.pt", map_location=device(), weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = state["curve"]
        logger.info("%s: continues after step %d of %d", self.job.step, len(self.curve), self.steps)
