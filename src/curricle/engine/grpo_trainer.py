"""TRL's GRPO trainer, fed with finished rounds.

What differs from TRL, and why:

* a round's conversations come from our own rollout loop, observations are masked, and a reward of
  ``None`` takes the whole conversation out of the loss, its tokens out of the average besides;
* rows that teach nothing (masked, or no advantage) never pass through the model, columns that a
  micro-batch does not use are cut, and the vocabulary is scored only where the model spoke: the
  same loss, a test says so, for a fraction of the work;
* a step without any signal is none: parameters stay, where momentum would have moved them;
* the order of rows is decided by seed and round, and steps can be resumed between rounds only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from curricle.config.agent_training import GrpoParameters
from curricle.engine.document_attention import use_document_attention
from curricle.engine.fast_paths import use_fast_paths
from curricle.engine.grpo_rounds import Attempt, Round
from curricle.engine.scoring import score_labels_only
from curricle.engine.trainers import OurSchedule, trainer_arguments
from curricle.launch.job import Job

RoundSource = Callable[["GroupTrainer", int], Round]
"""Returns a round, given the trainer (for its weights) and the round's number from 0."""


def grpo_arguments(parameters: GrpoParameters, job: Job, micro_batch: int) -> GRPOConfig:
    """Return TRL's configuration of the job."""
    steps = parameters.rounds * parameters.steps_per_round
    return GRPOConfig(
        **trainer_arguments(parameters, job, micro_batch, steps),
        num_generations=parameters.num_generations,
        steps_per_generation=parameters.tries // micro_batch,
        num_iterations=parameters.num_iterations,
        max_completion_length=parameters.max_length,
        beta=parameters.beta,
        epsilon=parameters.epsilon,
        epsilon_high=parameters.epsilon_high,
        loss_type=parameters.loss_type,
        scale_rewards=parameters.scale_rewards,
        temperature=parameters.temperature,
        top_p=1.0,
        top_k=0,
        shuffle_dataset=False,
        # The router's own loss would be added at the weight that the model's configuration names.
        router_aux_loss_coef=0.0,
        remove_unused_columns=False,
        # Rounds draw their tasks by number, so there is nothing to skip.
        ignore_data_skip=True,
    )


def recorded_rewards(
    prompts: Sequence[Any], completions: Sequence[Any], reward: list[float | None], **_: Any
) -> list[float | None]:
    """Return the rewards that the round came with."""
    return reward


class GroupTrainer(OurSchedule, GRPOTrainer):  # type: ignore[misc]
    """GRPO over rounds; see the module for what differs from TRL's."""

    parameters: GrpoParameters
    curve_keys = (
        "step", "loss", "learning_rate", "grad_norm", "reward", "reward_std", "kl", "entropy",
        "tries/reward", "tries/masked", "tries/overlong", "groups/differing", "groups/masked",
        "groups/redrawn",
        "calls/valid", "turns", "tokens", "kl_to_start", "clip_ratio/region_mean",
    )  # fmt: skip

    def __init__(
        self,
        parameters: GrpoParameters,
        rounds: RoundSource,
        start: Callable[[], PreTrainedModel] | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up.

        Args:
            parameters: of the job.
            rounds: where rounds come from.
            start: loads the model that training starts from, for ``kl_every`` without an adapter.
            kwargs: TRL's.
        """
        self.parameters = parameters
        self._start = start
        self.save_multiple = parameters.steps_per_round
        self._rounds = rounds
        self._started: PreTrainedModel | None = None
        self._spoken: torch.Tensor | None = None
        self._buffered_inputs: list[dict[str, Any]] | None = None
        super().__init__(reward_funcs=recorded_rewards, rollout_func=self._roll_out, **kwargs)
        use_document_attention(_without_adapter(self.model))
        use_fast_paths(self.model)
        score_labels_only(_without_adapter(self.model), parameters.temperature)
        if self.ref_model is not None:
            use_document_attention(self.ref_model)
            score_labels_only(self.ref_model, parameters.temperature)

    def _roll_out(self, prompts: list[Any], trainer: GRPOTrainer) -> dict[str, Any]:
        """Return what TRL asks of a rollout: a row per try, groups side by side."""
        done = self._rounds(self, self._round_number())
        attempts = [attempt for group in done.groups for attempt in group.attempts]
        assert len(attempts) == len(prompts), "a round is as large as the generation batch"
        for name, value in done.measure().items():
            self._metrics["train"][name].append(value)
        rows = [_training_row(attempt, self._tokenizer.pad_token_id) for attempt in attempts]
        return {
            "prompt_ids": [attempt.prompt_ids for attempt in attempts],
            "completion_ids": [ids for ids, _ in rows],
            "env_mask": [mask for _, mask in rows],
            "logprobs": None,
            "reward": [attempt.reward for attempt in attempts],
        }

    def _generate(self, prompts: list[Any]) -> Any:
        generated = super()._generate(prompts)
        masks = [torch.tensor(mask) for mask in generated[2]]
        self._spoken = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True)
        return generated

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        rewards = [math.nan if row["reward"] is None else row["reward"] for row in inputs]
        return torch.tensor(rewards, dtype=torch.float32, device=self.accelerator.device)[:, None]

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        passes = self.args.steps_per_generation
        if self._step % (passes * self.num_iterations) == 0 or self._buffered_inputs is None:
            scored = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = self._micro_batches(scored)
            every, number = self.parameters.kl_every, self._round_number()
            if every and number % every == 0:
                self._metrics["train"]["kl_to_start"].append(self._kl_to_start(scored))
        batches: list[dict[str, Any]] = self._buffered_inputs
        return batches[int(self._step % passes)]

    def _micro_batches(self, scored: dict[str, Any]) -> list[dict[str, Any]]:
        """Split a round into the passes of its steps; in each step, rows of like length together.

        ``share`` is what a pass's rows weigh in a mean over the step's rows, relative to a pass of
        the usual size; a pass may be empty.
        """
        p = self.parameters
        spoken = scored["completion_mask"] * scored["tool_mask"]  # (tries, completion)
        teaches = spoken.any(1) & ((scored["advantages"] != 0) | (p.beta > 0))
        lengths = scored["prompt_mask"].sum(1) + scored["completion_mask"].sum(1)
        draw = torch.Generator().manual_seed(1_000_003 * p.seed + self._round_number())
        order = torch.randperm(p.tries, generator=draw).to(teaches.device)
        size = self.args.per_device_train_batch_size
        passes = p.batch_size // size
        batches = []
        for start in range(0, p.tries, p.batch_size):
            step_rows = order[start : start + p.batch_size]
            kept = step_rows[teaches[step_rows]]
            kept = kept[lengths[kept].argsort(stable=True)]
            for rows in kept.tensor_split(passes):
                batch = _cut({name: _take(value, rows) for name, value in scored.items()})
                batches.append({**batch, "share": len(rows) / size})
        return batches

    def _round_number(self) -> int:
        return int(self.state.global_step // self.parameters.steps_per_round)

    @torch.no_grad()
    def _kl_to_start(self, scored: dict[str, Any]) -> float:
        """Estimate the divergence from the start (nats per token) on what the model just said."""
        total, count = 0.0, 0
        passes = self.args.steps_per_generation
        for rows in torch.arange(self.parameters.tries).tensor_split(passes):
            batch = _cut({name: _take(value, rows) for name, value in scored.items()})
            self._spoken = batch["completion_mask"] * batch["tool_mask"]
            ids, mask = (
                torch.cat([batch[f"prompt_{part}"], batch[f"completion_{part}"]], 1)
                for part in ("ids", "mask")
            )
            now, then = (
                self._get_per_token_logps_and_entropies(model, ids, mask, self._spoken.size(1))[0]
                for model in self._now_and_then()
            )
            difference = (then - now)[self._spoken.bool()]
            total += float((difference.exp() - difference - 1).sum())
            count += len(difference)
        return total / max(1, count)

    def _now_and_then(self) -> Iterator[Any]:
        """Yield the model, then the one that it started as; use each before taking the next."""
        yield self.model
        if isinstance(self.model, PeftModel):
            with self.model.disable_adapter():
                yield self.model
            return
        if self.ref_model is None and self._started is None:
            assert self._start is not None, "kl_every needs the model that training starts from"
            self._started = self._start()
            use_document_attention(self._started)
            add_fused_lm_head(self._started, temperature=self.temperature)
            score_labels_only(self._started, self.temperature)
        yield self.ref_model or self._started

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if not len(inputs["completion_ids"]):  # no parameter gets a gradient, so none is moved
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        self._spoken = inputs["completion_mask"] * inputs["tool_mask"]
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss if self.loss_type == "dapo" else loss * inputs["share"]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Score (rows, ``logits_to_keep``) tokens, those alone that the model spoke."""
        assert self._spoken is not None
        spoken = self._spoken.to(input_ids.device).bool()
        labels = torch.full_like(input_ids, -100)
        labels[:, -logits_to_keep:] = input_ids[:, -logits_to_keep:].masked_fill(~spoken, -100)
        log_probs: list[torch.Tensor] = []
        entropies: list[torch.Tensor] = []
        size = batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            rows = slice(start, start + size)
            with self.accelerator.autocast():
                scored = model(
                    input_ids=input_ids[rows], attention_mask=attention_mask[rows],
                    labels=labels[rows], fused_lm_head=True,
                )  # fmt: skip
            log_probs.append(scored.log_probs[:, -logits_to_keep:])
            entropies.append(scored.entropy[:, -logits_to_keep:])
        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None


def _training_row(attempt: Attempt, pad_id: int) -> tuple[list[int], list[int]]:
    """Return the completion and its mask; nothing of a masked try is trained on."""
    if attempt.reward is None or not attempt.completion_ids:
        completion = attempt.completion_ids or [pad_id]
        return completion, [0] * len(completion)
    return attempt.completion_ids, attempt.mask


def _without_adapter(model: Any) -> PreTrainedModel:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _take(value: Any, rows: torch.Tensor) -> Any:
    is_per_row = isinstance(value, torch.Tensor) and value.dim() > 0
    return value[rows] if is_per_row else value


def _cut(batch: dict[str, Any]) -> dict[str, Any]:
    """Cut the columns that hold padding alone: prompts' left ones, completions' right ones."""
    if not len(batch["prompt_mask"]):
        return batch
    prompt = int(batch["prompt_mask"].sum(1).max())
    completion = int(batch["completion_mask"].sum(1).max())
    left = {name: batch[name][:, -prompt:] for name in ("prompt_ids", "prompt_mask")}
    width = batch["completion_mask"].shape
    right = {
        name: value[:, :completion]
        for name, value in batch.items()
        if name not in left and isinstance(value, torch.Tensor) and value.shape == width
    }
    return {**batch, **left, **right}
