"""GRPO's trainer: TRL's losses for less work, and steps only where there is something to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOTrainer

from curricle.config.agent_training import GrpoParameters
from curricle.config.training import AdapterShape
from curricle.engine.adapters import adapter_arguments
from curricle.engine.grpo_rounds import Attempt, Group, Round
from curricle.engine.grpo_trainer import GroupTrainer, grpo_arguments, recorded_rewards
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.trainers import OurSchedule
from tests.engine.conftest import MakeJob

SETTINGS: dict[str, Any] = {
    "environment": {"function": "nowhere:nothing"}, "rounds": 2, "groups": 3, "num_generations": 4,
    "batch_size": 12, "per_device_train_batch_size": 4, "max_length": 64, "learning_rate": 1e-2,
    "lr_scheduler_type": "constant", "warmup_share": 0.0, "precision": "fp32",
}  # fmt: skip


def spoken(seed: int, reward: float | None) -> Attempt:
    """A try of three turns: the model's, the environment's, the model's."""
    draw = torch.Generator().manual_seed(seed)

    def tokens(least: int, most: int) -> list[int]:
        count = int(torch.randint(least, most, (), generator=draw))
        return torch.randint(4, 500, (count,), generator=draw).tolist()

    said, shown, concluded = tokens(3, 9), tokens(2, 12), tokens(1, 6)
    mask = [1] * len(said) + [0] * len(shown) + [1] * len(concluded)
    return Attempt(tokens(3, 8), said + shown + concluded, mask, reward)


def make_round(number: int, rewards: list[list[float | None]]) -> Round:
    groups = [
        Group(place, [spoken(100 * number + 10 * place + i, r) for i, r in enumerate(group)])
        for place, group in enumerate(rewards)
    ]
    return Round(number, groups)


MIXED: list[list[float | None]] = [[1, 0, 0, 1], [1, 1, 1, 1], [0, None, 1, 0]]
SETTLED: list[list[float | None]] = [[1, 1, 1, 1], [0, 0, 0, 0], [None] * 4]


class PlainTrainer(OurSchedule, GRPOTrainer):
    """TRL's trainer, with our schedule only."""

    def __init__(self, parameters: GrpoParameters, rounds: Any, **kwargs: Any) -> None:
        self.parameters = parameters

        def roll_out(prompts: list[Any], trainer: Any) -> dict[str, Any]:
            done = rounds(self, self.state.global_step // parameters.steps_per_round)
            tries = [attempt for group in done.groups for attempt in group.attempts]
            return {
                "prompt_ids": [t.prompt_ids for t in tries],
                "completion_ids": [t.completion_ids for t in tries],
                "env_mask": [t.mask if t.reward is not None else [0] * len(t.mask) for t in tries],
                "logprobs": None,
                "reward": [t.reward for t in tries],
            }

        super().__init__(reward_funcs=recorded_rewards, rollout_func=roll_out, **kwargs)


class Gradients(TrainerCallback):
    """Keeps the gradient of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, *args: Any, model: Any, **kwargs: Any) -> None:
        self.steps.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )


@pytest.fixture
def train(initial: Path, make_job: MakeJob) -> Any:
    """Train the small model on given rounds; return its trainer and the gradient of each step."""

    def run(
        kind: type[Any], rewards: list[list[float | None]], name: str, **changes: Any
    ) -> tuple[Any, list[dict[str, torch.Tensor]]]:
        parameters = GrpoParameters(**{**SETTINGS, **changes})
        model = load_model(initial)
        micro_batch = parameters.per_device_train_batch_size or parameters.batch_size
        trainer = kind(
            parameters,
            lambda _, number: make_round(number, rewards),
            model=model,
            args=grpo_arguments(parameters, make_job("grpo", {}, name=name), micro_batch),
            train_dataset=Dataset.from_dict({"prompt": [""] * parameters.groups}),
            processing_class=load_tokenizer(initial),
            **adapter_arguments(model, parameters.adapter, "grpo"),
        )
        gradients = Gradients()
        trainer.add_callback(gradients)
        trainer.train()
        return trainer, gradients.steps

    return run


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss_type": "grpo"},
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        {"beta": 0.1, "temperature": 0.7},
        {"num_iterations": 2, "beta": 0.5},
        {"beta": 0.5, "loss_type": "grpo", "per_device_train_batch_size": 6},
        {"adapter": AdapterShape(r=4, lora_alpha=8.0)},
    ],
    ids=["dapo", "grpo", "dr_grpo", "beta", "iterations", "other", "adapter"],
)
def test_a_step_is_the_step_that_trl_takes(train: Any, changes: dict[str, Any]) -> None:
    _, ours = train(GroupTrainer, MIXED, "ours", **changes)
    _, theirs = train(PlainTrainer, MIXED, "theirs", **changes)
    # Adam turns a rounding error of a tiny first gradient into a whole step, so the second
    # gradients are those of slightly different weights.
    for step, tolerance in ((0, 1e-5), (1, 1e-2)):
        for name, gradient in theirs[step].items():
            scale = float(gradient.abs().max())
            assert scale > 0 or "lora_A" in name, f"{name} was not trained"
            torch.testing.assert_close(
                ours[step][name], gradient, atol=tolerance * scale, rtol=0, msg=f"{step} {name}"
            )


def test_a_round_in_which_nothing_differs_moves_no_weight(train: Any, initial: Path) -> None:
    trainer, gradients = train(GroupTrainer, SETTLED, "settled", weight_decay=0.1)
    assert gradients == [{}, {}]
    after = dict(trainer.model.named_parameters())
    before = load_model(initial).named_parameters()
    assert all(torch.equal(after[name], weight) for name, weight in before)


def test_only_rows_that_teach_pass_through_the_model(train: Any) -> None:
    passes: list[int] = []

    class Counting(GroupTrainer):
        def _get_per_token_logps_and_entropies(
            self, model: Any, ids: Any, *a: Any, **k: Any
        ) -> Any:
            passes.append(len(ids))
            return super()._get_per_token_logps_and_entropies(model, ids, *a, **k)

    train(Counting, MIXED, "counted", rounds=1)
    assert sum(passes) == 7  # the first group's four and the third group's three that were scored


def test_a_masked_try_neither_counts_as_zero_nor_dilutes_the_others(train: Any) -> None:
    masked: list[list[float | None]] = [[1, 0, None, None], [None] * 4, [None] * 4]
    _, with_masked = train(GroupTrainer, masked, "masked", rounds=1)
    _, without = train(
        GroupTrainer, [[1, 0]], "without", rounds=1, groups=1, num_generations=2, batch_size=2,
        per_device_train_batch_size=2,
    )  # fmt: skip
    for name, gradient in without[0].items():
        torch.testing.assert_close(with_masked[0][name], gradient, atol=1e-6, rtol=1e-4)
