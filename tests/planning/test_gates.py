"""Gates name stages and metrics that exist."""

from __future__ import annotations

from typing import Any

import pytest

from curricle.planning.gates import gate_problems
from tests.fabricated import GATES, specs


def problems(running: str = "pretrain", **changes: Any) -> str:
    return "\n".join(gate_problems(specs(), specs(running), {**GATES, **changes}))


def test_policies_that_can_be_judged_pass() -> None:
    assert problems() == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrian": {"perplexity": {"max": 3}}}, "there is no such stage; did you mean pretrain"),
        (
            {"sft": {"refusal_rat": {"min": 0.5}}},
            "sft produces no such metric; did you mean refusal_rate?",
        ),
        (
            {"pretrain": {"refusal_rate": {"min": 0.5}}},
            "It produces perplexity, next_token_accuracy.",
        ),
        (
            {"pretrain": {"perplexity": {"max": 2, "relative_to": "sft"}}},
            "relative_to=sft is not a stage before pretrain; before it: none.",
        ),
        (
            {"dpo": {"refusal_rate": {"min": 1, "relative_to": "pretrain"}}},
            "pretrain does not measure refusal_rate",
        ),
        ({"pretrain": {}}, "gates.pretrain is missing"),
    ],
)
def test_a_gate_that_could_never_be_judged_is_named(changes: dict[str, Any], said: str) -> None:
    assert said in problems(**changes)


def test_a_stage_that_does_not_run_needs_no_policy() -> None:
    assert problems(running="pretrain", lora={}) == ""
