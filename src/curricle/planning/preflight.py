"""What is refused before any node runs: two seconds now, or a night later.

The checks read parameters, the catalog and the disk, and ask tools for their versions; they read no
model, and torch is not imported.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from kedro.pipeline import Pipeline
from pydantic import BaseModel

from curricle.errors import ConfigError
from curricle.planning.execution import check_execution
from curricle.planning.gates import gate_problems
from curricle.planning.inputs import missing_inputs, unordered_evaluations
from curricle.planning.machine import check_resources
from curricle.planning.parameters import without_effect
from curricle.planning.plan import architecture_fields, longest_context, plan_stages
from curricle.stages.spec import StageSpec

logger = logging.getLogger(__name__)


def preflight(
    pipeline: Pipeline,
    catalog: Any,
    pipelines: Mapping[str, Pipeline],
    specs: tuple[StageSpec, ...],
    given: Mapping[str, Any],
) -> None:
    """Refuse a run that cannot end well, and warn of what it was given for nothing.

    Args:
        pipeline: what is about to run.
        catalog: Kedro's, with the parameters in it.
        pipelines: all that are registered: they tell who makes a missing dataset.
        specs: all stages, in curriculum order.
        given: ``--params``, nested.

    Raises:
        ConfigError: parameters or gates that contradict each other; a missing input.
        StoreError: a folder that cannot be written, or a disk that is too small.
        ToolMissing: a language's tools are not here.
        SandboxUnavailable: code cannot be run apart from this machine.
    """
    parameters = plain_parameters(catalog)
    running = stages_of(pipeline, specs)
    for message in without_effect(given, pipeline, pipelines):
        logger.warning(message)
    problems = [
        *gate_problems(specs, running, parameters.get("gates", {})),
        *size_problems(running, parameters),
        *missing_inputs(pipeline, catalog, pipelines),
        *unordered_evaluations(pipeline, parameters),
    ]
    if problems:
        raise ConfigError("\n".join(problems) + "\nNothing has run.")
    check_resources(plan_stages(training_of(pipeline, running), parameters), parameters, catalog)
    check_execution(pipeline, parameters)


def plain_parameters(catalog: Any) -> dict[str, Any]:
    """Return the parameters of a catalog as nested dictionaries, defaults filled in."""
    plain: dict[str, Any] = _plain(catalog["parameters"].load())
    return plain


def stages_of(pipeline: Pipeline, specs: tuple[StageSpec, ...]) -> tuple[StageSpec, ...]:
    """Return the stages that have a node in ``pipeline``."""
    tags = {tag for node in pipeline.nodes for tag in node.tags}
    return tuple(spec for spec in specs if spec.name in tags)


def training_of(pipeline: Pipeline, running: tuple[StageSpec, ...]) -> tuple[StageSpec, ...]:
    """Return the stages that would train, not only judge."""
    names = {node.name for node in pipeline.nodes}
    return tuple(spec for spec in running if f"{spec.name}.train" in names)


def size_problems(running: tuple[StageSpec, ...], parameters: Mapping[str, Any]) -> Iterator[str]:
    """Compare lengths and vocabularies with the model's, wherever parameters alone decide them."""
    prepare = parameters.get("pretrain", {}).get("prepare")
    if not running or not prepare:
        return
    fields = architecture_fields(prepare)
    limit = fields["max_position_embeddings"]
    fix = (
        "Shorten it, or set pretrain.prepare.overrides.max_position_embeddings (which makes "
        "another model)."
    )
    longest = longest_context(parameters)
    if longest > limit:
        yield (
            f"corpus.pack.curriculum reaches {longest} tokens, the model only {limit} "
            f"(max_position_embeddings). {fix}"
        )
    for spec in (spec for spec in running if spec.root == "pretrain" and spec.job):
        length = parameters[spec.name]["train"].get("max_length", 0)
        if length > limit:
            yield (
                f"{spec.name}.train.max_length={length} is more than the model's {limit} "
                f"positions (max_position_embeddings). {fix}"
            )
    vocabulary = parameters.get("corpus", {}).get("tokenizer", {}).get("vocab_size", 0)
    if vocabulary > fields["vocab_size"]:
        yield (
            f"corpus.tokenizer.vocab_size={vocabulary} is more than the model's "
            f"{fields['vocab_size']}. Lower it, or set pretrain.prepare.overrides.vocab_size."
        )
    yield from _step_problems(running, parameters, longest)


def _step_problems(
    running: tuple[StageSpec, ...], parameters: Mapping[str, Any], longest: int
) -> Iterator[str]:
    """A step must hold a whole row of the longest context."""
    for spec in (spec for spec in running if spec.job):
        per_step = parameters[spec.name]["train"].get("tokens_per_step")
        if per_step and longest > per_step:
            yield (
                f"{spec.name}.train.tokens_per_step={per_step} is less than one row of the "
                f"longest context, {longest} tokens. Raise it, or shorten corpus.pack.curriculum."
            )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
