"""TRL's trainers, subclassed in this one place.

What differs from TRL, and why:

* the schedule and the optimizer groups are ours, the same as in pretraining;
* the order of samples is decided by seed and epoch, so a resumed epoch is the same epoch;
* checkpoints carry a manifest, written last, and only a valid one is resumed from;
* on a CPU the SFT loss computes logits only where there is a label (TRL's tiles score every
  position there, and entropy and accuracy besides): the same loss, a test says so;
* nothing is written beside the checkpoints (no model card, no logs with time stamps).
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import DPOTrainer, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from curricle.config.training import PostTrainingParameters, TrainerParameters
from curricle.engine.objectives import summed_loss
from curricle.engine.precision import Witness
from curricle.engine.recovery import (
    OOMHandler,
    newest_valid_checkpoint,
    rotate_checkpoints,
    seal_checkpoint,
)
from curricle.engine.schedule import build_optimizer, learning_rate_share
from curricle.engine.scoring import score_labels_only
from curricle.engine.tracking import Tracker, tracked
from curricle.errors import Interrupted
from curricle.launch.job import Job
from curricle.launch.signals import StopRequest, stop_on_signal

logger = logging.getLogger(__name__)


class OurSchedule:
    """Mixed into a trainer: optimizer, schedule and what is saved.

    Attributes:
        parameters: of the stage.
        curve_keys: what its curve keeps of what it logs.
        save_multiple: only steps that it divides can be resumed from.
        stop: whether a signal arrived.
    """

    parameters: TrainerParameters
    curve_keys: tuple[str, ...] = (
        "step", "loss", "learning_rate", "grad_norm", "rewards/margins", "rewards/accuracies",
    )  # fmt: skip
    save_multiple: int = 1
    stop: StopRequest = StopRequest()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return AdamW with our groups."""
        p = self.parameters
        self.optimizer = build_optimizer(
            self.model,  # type: ignore[attr-defined]
            p.learning_rate, p.weight_decay, (p.adam_beta1, p.adam_beta2),
        )  # fmt: skip
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
        """Return our schedule."""
        p = self.parameters

        def share(step: int) -> float:
            return learning_rate_share(
                step, num_training_steps, p.lr_scheduler_type, p.warmup_share, p.min_lr_share
            )

        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, share)
        return self.lr_scheduler

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing: the manifest says what a checkpoint is."""


class PackedSFTTrainer(OurSchedule, SFTTrainer):
    """SFT over packed rows, with logits only where there is loss."""

    def __init__(self, parameters: PostTrainingParameters, **kwargs: Any) -> None:
        self.parameters = parameters
        super().__init__(**kwargs)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean loss over labelled tokens (nats); see the module for what differs."""
        if return_outputs or inputs["input_ids"].device.type != "cpu" or num_items_in_batch is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # The model's own call would enter it; the layers below are reached past that.
        with self.accelerator.autocast():
            return self._labelled_loss(model, inputs, num_items_in_batch)

    def _labelled_loss(self, model: Any, inputs: dict[str, Any], labelled: Any) -> torch.Tensor:
        unwrapped = self.accelerator.unwrap_model(model)
        if hasattr(unwrapped, "get_base_model"):  # a PEFT model: its layers live in the base model
            unwrapped = unwrapped.get_base_model()
        return summed_loss(unwrapped, inputs) / torch.as_tensor(labelled).clamp(min=1)


class PairDPOTrainer(OurSchedule, DPOTrainer):
    """DPO and IPO as TRL computes them, of what the model said alone.

    TRL takes everything after the prompt for the model's own, a tool's answers included. Pairs that
    come tokenised, with ``chosen_mask`` and ``rejected_mask``, are compared where the mask is 1.
    """

    def __init__(self, parameters: PostTrainingParameters, **kwargs: Any) -> None:
        self.parameters = parameters
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        if "chosen_mask" not in dataset.column_names:
            return super()._prepare_dataset(dataset, *args, **kwargs)
        return dataset

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        model = self.accelerator.unwrap_model(self.model)
        score_labels_only(model.get_base_model() if hasattr(model, "get_base_model") else model)
        return super()._precompute_ref_logps(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        grouped = super()._get_train_sampler(train_dataset)
        return EpochSampler(grouped.batch_size, grouped.lengths, self.parameters.seed)


@dataclass(frozen=True)
class MaskedPairs:
    """Collates pairs as TRL does, and says which tokens of the answers are the model's.

    Attributes:
        collate: TRL's collator.
    """

    collate: DataCollatorForPreference

    def __call__(self, pairs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return TRL's batch: chosen conversations, then rejected ones, each (pairs, length)."""
        batch = self.collate(pairs)
        own = torch.zeros_like(batch["completion_mask"])
        masks = [(p["prompt_ids"], p[f"{side}_mask"]) for side in ("chosen", "rejected")
                 for p in pairs]  # fmt: skip
        for row, (prompt, mask) in enumerate(masks):
            own[row, len(prompt) : len(prompt) + len(mask)] = torch.tensor(mask)
        return {**batch, "completion_mask": own}


class EpochSampler(LengthGroupedSampler):
    """Samples of similar length together, in an order that the seed and the epoch decide.

    The library draws the order from the global generator, which a run that resumes in its second
    epoch finds in another state: it would read other samples than the run that was not interrupted.
    """

    def __init__(self, batch_size: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self._seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the next order for this epoch; the trainer calls it before each."""
        self.generator = torch.Generator().manual_seed(1000 * self._seed + epoch)


class _Guard(TrainerCallback):
    """Saves by the clock and on a signal, and seals what was saved."""

    def __init__(self, job: Job, stop: StopRequest, save_multiple: int) -> None:
        self._job = job
        self._stop = stop
        self._save_multiple = save_multiple
        self._saved_at = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        due = time.monotonic() - self._saved_at > self._job.checkpoint_every_s
        can_resume = state.global_step % self._save_multiple == 0
        if (due or self._stop) and can_resume and state.global_step < state.max_steps:
            control.should_save = True
        if self._stop:
            control.should_training_stop = True
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        folder = self._job.resume / f"checkpoint-{state.global_step}"
        seal_checkpoint(folder, state.global_step, {"precision": self._job.precision})
        rotate_checkpoints(self._job.resume, self._job.keep_checkpoints)
        self._saved_at = time.monotonic()


def training_steps(parameters: PostTrainingParameters, samples: int) -> int:
    """Return the steps of all epochs, or ``max_steps`` when these are fewer.

    Hugging Face repeats the data until ``max_steps`` is reached; here it is a limit.
    """
    epochs = math.ceil(samples / parameters.batch_size * parameters.num_train_epochs)
    return min(epochs, parameters.max_steps or epochs)


def trainer_arguments(
    parameters: TrainerParameters, job: Job, micro_batch: int, steps: int
) -> dict[str, Any]:
    """Return the arguments that all trainers share.

    TRL turns bf16 and activation checkpointing on by default; both are said here on purpose.
    """
    on_cpu = not torch.cuda.is_available()
    return {
        "output_dir": str(job.resume),
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": parameters.batch_size // micro_batch,
        "max_steps": steps,
        "learning_rate": parameters.learning_rate,
        "max_grad_norm": parameters.max_grad_norm,
        "bf16": job.precision == "bf16",
        "fp16": False,
        "use_cpu": on_cpu,
        "activation_checkpointing": not on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "logging_steps": 1,
        "logging_strategy": "steps",
        "save_strategy": "no",
        "report_to": "none",
        "seed": parameters.seed,
        "disable_tqdm": not sys.stderr.isatty(),
    }


def train(
    job: Job,
    parameters: TrainerParameters,
    make_trainer: Callable[[int], Any],
) -> tuple[Any, list[dict[str, float]], dict[str, Any]]:
    """Train to the end, through interruptions before and memory running out now.

    Args:
        job: where trainer checkpoints live.
        parameters: of the stage.
        make_trainer: returns a fresh trainer, one of those above, for a micro-batch.

    Returns:
        The trainer, the curve (a dict per step), and what was measured.

    Raises:
        Interrupted: a signal arrived; the state is saved.
        ConfigError: another precision was in force than the one asked for.
    """
    whole = parameters.batch_size
    oom = OOMHandler(parameters.per_device_train_batch_size or whole, parameters.oom_recovery)
    while True:
        oom.micro_batch = largest_divisor(whole, oom.micro_batch)
        trainer = make_trainer(oom.micro_batch)
        checkpoint = newest_valid_checkpoint(job.resume)
        started = time.monotonic()
        try:
            with stop_on_signal() as stop, tracked(job) as tracker:
                _quiet(trainer)
                trainer.stop = stop
                trainer.add_callback(_Guard(job, stop, trainer.save_multiple))
                trainer.add_callback(_Tracking(tracker, trainer.curve_keys))
                witness = Witness(trainer.model)
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            witness.require(job.precision, job.step)
            break
        except (RuntimeError, MemoryError) as error:
            oom.shrink(error)
    state = trainer.state
    if stop:  # in the last step too: a signal is never swallowed
        raise Interrupted(
            f"{job.step}: stopped by {stop.signal_name} after step {state.global_step} of "
            f"{state.max_steps}. The same command continues from the last saved step.",
            stop.signal_name,
        )
    curve = [
        {key: entry[key] for key in trainer.curve_keys if key in entry}
        for entry in state.log_history
        if "loss" in entry
    ]
    seconds = time.monotonic() - started
    return trainer, curve, {"train_s": round(seconds, 2), "micro_batch": oom.micro_batch}


def largest_divisor(whole: int, limit: int) -> int:
    """Return the largest divisor of ``whole`` that is at most ``limit``.

    Accumulation takes whole micro-batches: 14 samples in passes of 4 would be a step of 12.
    """
    return next(size for size in range(min(limit, whole), 0, -1) if whole % size == 0)


def _quiet(trainer: Trainer) -> None:
    """Keep the progress bar, drop the printed dictionary of every step."""
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(_Bar())


class _Tracking(TrainerCallback):
    """Passes the curve on to the tracker."""

    def __init__(self, tracker: Tracker, keys: tuple[str, ...]) -> None:
        self._tracker = tracker
        self._keys = keys

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if logs and "loss" in logs:
            point = {"step": state.global_step, **logs}
            self._tracker.log({key: point[key] for key in self._keys if key in point})


class _Bar(TrainerCallback):
    """One progress bar, with the loss beside it."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step")

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl,
        logs: dict[str, float] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        self._bar.update(state.global_step - self._bar.n)
        if logs and "loss" in logs:
            self._bar.set_postfix(loss=f"{logs['loss']:.3f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._bar.close()
