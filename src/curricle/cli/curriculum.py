"""``kedro curricle ...``: look at gates and lineage, plan a run, clear the store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.utils import _split_params, split_string
from kedro.framework.startup import ProjectMetadata

from curricle.cli.errors import ends_clearly, with_environment
from curricle.cli.project import data_folders, env_option, opened
from curricle.pipeline_registry import register_pipelines, stage_specs
from curricle.reporting.summary import console


@click.group(name="curricle")
def curriculum() -> None:
    """Look at the curriculum: its gates, its lineage, its store, its plan."""


@curriculum.command()
@click.option("--pipeline", default="__default__", help="Only the gates of this pipeline.")
@env_option
@click.pass_obj
@ends_clearly
def gates(metadata: ProjectMetadata, pipeline: str, env: str | None) -> None:
    """Show every check of a pipeline's gates. Exit status 0 when all are open, else 1."""
    from curricle.cli.plan import named_pipeline
    from curricle.cli.tables import gates_table
    from curricle.planning.preflight import stages_of
    from curricle.reporting.gates import gate_states
    from curricle.reporting.state import read_states

    with opened(metadata, env) as project:
        stages = stages_of(named_pipeline(pipeline, register_pipelines()), stage_specs())
        states = read_states(project.catalog, stages)
        found = gate_states(states, project.parameters.get("gates", {}))
    console().print(gates_table(found))
    for gate in found:
        if gate.fix:
            click.echo(with_environment(f"{gate.state.stage}: {gate.fix}", env))
    sys.exit(0 if all(gate.is_open for gate in found) else 1)


@curriculum.command()
@click.option("--stage", default=None, help="Only the chain that ends in this stage.")
@env_option
@click.pass_obj
@ends_clearly
def lineage(metadata: ProjectMetadata, stage: str | None, env: str | None) -> None:
    """Show the chain of certificates and prove every link. Exit status 1 when one is broken."""
    from curricle.cli.lineage import check_lineage
    from curricle.cli.tables import lineage_table

    with opened(metadata, env) as project:
        links, broken = check_lineage(project.catalog, project.store, stage_specs(), stage)
    if links:
        console().print(lineage_table(links))
    for problem in broken:
        click.secho(problem, fg="red", err=True)
    if not links and not broken:
        click.echo("There is no certificate yet: no gate has opened.")
    sys.exit(1 if broken else 0)


@curriculum.command()
@click.option("--yes", is_flag=True, help="Delete what is listed.")
@env_option
@click.pass_obj
@ends_clearly
def gc(metadata: ProjectMetadata, yes: bool, env: str | None) -> None:
    """List stored results that no certificate and no handle can reach; with --yes delete them."""
    from curricle.checkpoints.garbage import size_bytes, unreachable
    from curricle.planning.machine import human

    with opened(metadata, env) as project:
        folders = data_folders(project.path)
        found = unreachable(project.store, folders)
        sizes = {stored: size_bytes(stored) for stored in found}
        for stored, size in sizes.items():
            click.echo(f"{human(size):>10}  {stored.step}/{stored.fingerprint}")
            if yes:
                project.store.remove(stored)
    total = f"{len(found)} of the stored results, {human(sum(sizes.values()))}"
    if not found:
        click.echo("Everything that is stored is needed.")
    elif yes:
        click.echo(f"Deleted {total}.")
    else:
        click.echo(f"{total}: no certificate and no handle needs them. Delete them with --yes.")


@curriculum.command()
@click.option("--pipelines", default="", callback=split_string, help="Registered pipelines.")
@click.option("--params", default="", type=click.UNPROCESSED, callback=_split_params,
              help="As in kedro run.")  # fmt: skip
@env_option
@click.pass_obj
@ends_clearly
def plan(
    metadata: ProjectMetadata, pipelines: list[str], params: dict[str, Any], env: str | None
) -> None:
    """Show what a run would need, and which stages it would find in the store."""
    from curricle.cli.plan import show_plan

    with opened(metadata, env, params) as project:
        show_plan(project, pipelines or ["__default__"], register_pipelines(), stage_specs())


@curriculum.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "stage", required=True, help="The stage whose checkpoint it becomes.")
@env_option
@click.pass_obj
@ends_clearly
def adopt(metadata: ProjectMetadata, path: Path, stage: str, env: str | None) -> None:
    """Take in a model that was trained elsewhere: its certificate says that no gate judged it."""
    from curricle.cli.adoption import adopt_model

    with opened(metadata, env) as project:
        certificate = adopt_model(project, path, stage, register_pipelines())
    click.echo(
        f"{stage}_checkpoint is now {path}, adopted: no gate of this curriculum judged it. "
        f"Certificate {certificate.hash[:16]}, stored as {certificate.candidate.path}."
    )
