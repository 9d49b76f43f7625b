"""A training stage, described as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from curricle.config.training import OptimizerParameters
from curricle.stages.metrics import metric_names

PACKED_CORPUS = "corpus_packed"
"""The dataset of packed arrays: pretraining reads it, and its held-out part measures each stage."""


@dataclass(frozen=True)
class Prepare:
    """The first node of a stage.

    Attributes:
        func: the node function; it also receives ``parameters`` (``<stage>.prepare``) and ``run``.
        inputs: its further inputs: argument name to dataset name.
        output: the dataset that it makes, inside the stage's namespace.
    """

    func: Callable[..., Any]
    inputs: dict[str, str] = field(default_factory=dict)
    output: str = "data"


@dataclass(frozen=True)
class StageSpec:
    """What tells one training stage from another.

    Attributes:
        name: flat, underscored and unique over all pipelines.
        job: the engine's job that trains it, a key of ``curricle.launch.job.JOB_KINDS``; ``None``
            when nothing is trained and ``prepare`` gives the candidate: a model from outside, to
            be measured and certified, or the parent's again.
        parameters: the model that validates ``<name>.train``; ``None`` without a job.
        metrics: metric groups that its candidate is measured by.
        prepare: what makes the stage's data.
        parent: the stage whose checkpoint it starts from. The first stage has none and starts
            from the model that its ``prepare`` makes.
        data: the dataset that it trains on, when that is not what ``prepare`` makes.
        inputs: further stored inputs of its training job: name to dataset name.
        heldout: the packed array whose held-out part the foundation metrics are measured on, after
            every stage; in the tokens of the model's own tokenizer.
        root: where its architecture is decided: ``pretrain`` or ``foundation``.
        measured_on: further stored inputs of its measurement: name to dataset name.
    """

    name: str
    job: str | None
    parameters: type[OptimizerParameters] | None
    metrics: tuple[str, ...]
    prepare: Prepare
    parent: str | None = None
    data: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    heldout: str = PACKED_CORPUS
    root: Literal["pretrain", "foundation"] = "pretrain"
    measured_on: dict[str, str] = field(default_factory=dict)

    @property
    def measures(self) -> bool:
        """Whether it has a candidate of its own to measure; the parent's was measured there."""
        return self.job is not None or self.parent is None

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that its gate may name."""
        return metric_names(self.metrics)
