"""Learning rates over a run, and which parameters are decayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from curricle.engine.models import load_model
from curricle.engine.schedule import build_optimizer, learning_rate_share

STEPS = 100


def shares(kind: str, warmup: float = 0.1, least: float = 0.1) -> list[float]:
    return [learning_rate_share(step, STEPS, kind, warmup, least) for step in range(STEPS)]


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_the_warm_up_rises_in_equal_steps_to_the_peak(kind: str) -> None:
    assert shares(kind)[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert shares(kind)[10] == 1.0 == max(shares(kind))


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_the_decay_ends_at_the_least_share(kind: str) -> None:
    decay = shares(kind)[10:]
    assert decay == sorted(decay, reverse=True)
    assert decay[-1] == pytest.approx(0.1, abs=0.02)
    assert learning_rate_share(STEPS, STEPS, kind, 0.1, 0.1) == pytest.approx(0.1)


def test_half_way_cosine_and_linear_agree() -> None:
    half = [learning_rate_share(55, STEPS, kind, 0.1, 0.1) for kind in ("cosine", "linear")]
    assert half == pytest.approx([0.55, 0.55])


def test_constant_stays_at_the_peak() -> None:
    assert set(shares("constant")[10:]) == {1.0}


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert shares("cosine", warmup=0.0)[0] == 1.0


def test_a_run_of_one_step_trains_at_the_peak() -> None:
    assert learning_rate_share(0, 1, "cosine", 0.03, 0.1) == 1.0


def test_only_matrices_are_decayed_and_every_parameter_is_in_one_group(initial: Path) -> None:
    model = load_model(initial)
    decayed, kept = build_optimizer(model, 1e-3, 0.1, (0.9, 0.95)).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in kept["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out(initial: Path) -> None:
    model = load_model(initial)
    model.get_input_embeddings().weight.requires_grad_(False)
    groups = build_optimizer(model, 1e-3, 0.1, (0.9, 0.95)).param_groups
    optimised = {id(p) for group in groups for p in group["params"]}
    assert id(model.get_input_embeddings().weight) not in optimised
