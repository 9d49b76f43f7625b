"""Shows a plan: what each stage needs, whether it would be reused, what the machine has."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import click
from kedro.pipeline import Pipeline
from rich.table import Table

from curricle.cli.project import Project
from curricle.errors import ConfigError
from curricle.planning.machine import human, memory_bytes
from curricle.planning.parameters import did_you_mean
from curricle.planning.plan import StagePlan, plan_stages
from curricle.planning.preflight import stages_of
from curricle.planning.reuse import Verdict, node_verdicts, precision_is_known
from curricle.reporting.summary import console
from curricle.stages.spec import StageSpec


def show_plan(
    project: Project,
    names: list[str],
    pipelines: Mapping[str, Pipeline],
    specs: tuple[StageSpec, ...],
) -> None:
    """Print the plan of some pipelines.

    Raises:
        ConfigError: a pipeline is unknown.
    """
    pipeline = sum((named_pipeline(name, pipelines) for name in names), Pipeline([]))
    running = stages_of(pipeline, specs)
    plans = plan_stages(running, project.parameters)
    verdicts: dict[str, Verdict] = {}
    if precision_is_known(project.parameters):
        verdicts = node_verdicts(pipeline, project.catalog, specs)
    console().print(_table(plans, verdicts))
    disk, store = sum(plan.disk_bytes for plan in plans), project.store.root
    memory = max((plan.memory_bytes for plan in plans), default=0)
    click.echo(f"disk:   {human(disk)} at most, {human(_free(store))} are free in {store}")
    click.echo(f"memory: {human(memory)} for the largest stage, {human(memory_bytes())} here")
    if not verdicts:
        click.echo(
            "What would be reused is known after the first run: it measures this machine's "
            "precision, a part of every fingerprint."
        )


def named_pipeline(name: str, pipelines: Mapping[str, Pipeline]) -> Pipeline:
    """Return a registered pipeline.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in pipelines:
        raise ConfigError(f"There is no pipeline {name}; {did_you_mean(name, pipelines)}")
    return pipelines[name]


def _table(plans: tuple[StagePlan, ...], verdicts: Mapping[str, Verdict]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("stage", "parameters", "trainable", "steps", "tokens", "memory", "disk"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    table.add_column("training")
    table.add_column("gate")
    for plan in plans:
        table.add_row(
            plan.stage,
            f"{plan.parameters:,}",
            f"{plan.trainable:,}",
            _count(plan.steps),
            _count(plan.tokens),
            human(plan.memory_bytes),
            human(plan.disk_bytes),
            verdicts.get(f"{plan.stage}.train", ""),
            {"reused": "open", "closed": "closed"}.get(verdicts.get(f"gate_{plan.stage}", ""), ""),
        )
    return table


def _count(value: int | None) -> str:
    return "all data" if value is None else f"<= {value:,}"


def _free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
