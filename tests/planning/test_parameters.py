"""A parameter that nobody reads, or that cannot be, is refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from curricle.errors import ConfigError
from curricle.pipeline_registry import register_pipelines
from curricle.planning.parameters import check_parameters, without_effect

PIPELINES = register_pipelines()


def tree(**changes: Any) -> dict[str, Any]:
    """Return parameters that are right, with dotted keys changed (a dot is a double underscore)."""
    parameters: dict[str, Any] = {
        "run": {"store": "/tmp/store"},
        "pretrain": {
            "prepare": {"architecture": "llama_small"},
            "train": {"learning_rate": 1e-3, "tokens_per_step": 4096},
            "evaluate": {},
        },
        "gates": {"pretrain": {"perplexity": {"max": 200}}},
    }
    for path, value in changes.items():
        node = parameters
        *parents, last = path.split("__")
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return parameters


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        check_parameters(tree(**changes), PIPELINES)
    return str(raised.value)


def test_what_is_right_passes() -> None:
    check_parameters(tree(), PIPELINES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrian__train__learning_rate": 0}, "pretrian is read by nothing; did you mean pret"),
        ({"pretrain__trian__x": 1}, "pretrain.trian is read by nothing; did you mean pretrain.tra"),
        ({"pretrain__train__learnig_rate": 0}, "pretrain.train.learnig_rate is unknown; did you"),
        ({"pretrain__train__learning_rate": "abc"}, "pretrain.train.learning_rate='abc'"),
        ({"pretrain__train__learning_rate": -1}, "pretrain.train.learning_rate=-1"),
        ({"pretrain__prepare__architecure": "x"}, "did you mean architecture?"),
        ({"gates__pretrain__perplexity__mx": 3}, "gates.pretrain.perplexity.mx is unknown; did yo"),
        ({"gates__pretrain__perplexity": {}}, "a check needs `min`, `max` or both"),
        ({"gates__pretrian__perplexity__max": 3}, "gates.pretrian is read by nothing"),
        ({"run__stor": "x"}, "run.stor is unknown; did you mean store?"),
        ({"pretrain": 3}, "pretrain is 3, not a block"),
    ],
)
def test_what_is_wrong_is_named_by_its_whole_key(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(**changes)


def test_all_that_is_wrong_is_said_at_once() -> None:
    message = refusal(pretrian__x=1, pretrain__train__seed="x", sft__train__batch_sise=3)
    assert message.count("parameter ") >= 3


def test_a_stage_that_does_not_run_is_checked_too() -> None:
    assert "dpo.train.bta is unknown; did you mean beta?" in refusal(
        dpo__train={"learning_rate": 1e-4, "max_length": 9, "batch_size": 1, "bta": 0.1}
    )


@pytest.mark.parametrize(
    ("given", "pipeline", "said"),
    [
        (
            {"dpo": {"train": {"learning_rate": 1e-5}}},
            "lora",
            ["dpo.train.learning_rate changes nothing in this run, none of its nodes reads it; "
             "the pipeline dpo does."],
        ),
        ({"dpo": {"train": {"learning_rate": 1e-5}}}, "dpo", []),
        ({"dpo": {"train": {"seed": 1}}, "lora": {"train": {"seed": 1}}}, "__default__", []),
        ({"gates": {"sft": {"refusal_rate": {"min": 0.1}}}}, "sft", []),
        (
            {"gates": {"sft": {"refusal_rate": {"min": 0.1}}}},
            "tui",
            ["gates.sft.refusal_rate.min changes nothing in this run, none of its nodes reads it; "
             "the pipeline sft does."],
        ),
        ({"run": {"tracking": "wandb"}}, "sft", []),
        ({"language": {"stages": {"sft": {"train": {"seed": 1}}}}}, "lora", []),
        ({"agent": {"max_length": 1024}}, "lora", []),
    ],
)  # fmt: skip
def test_a_parameter_that_the_run_does_not_read_is_said(
    given: dict[str, Any], pipeline: str, said: list[str]
) -> None:
    assert [*without_effect(given, PIPELINES[pipeline], PIPELINES)] == said
