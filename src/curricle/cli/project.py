"""Opens the project for a command that looks and does not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from kedro.framework.project import settings
from kedro.framework.session import KedroSession
from kedro.framework.startup import ProjectMetadata

from curricle.checkpoints.store import Store
from curricle.cli.output import plain_lines_unless_terminal
from curricle.planning.preflight import plain_parameters


@dataclass(frozen=True)
class Project:
    """What a command looks at.

    Attributes:
        path: the project's folder.
        catalog: Kedro's, with the parameters in it.
        parameters: nested, defaults filled in.
    """

    path: Path
    catalog: Any
    parameters: dict[str, Any]

    @property
    def store(self) -> Store:
        """The store that the parameters name."""
        return Store(Path(self.parameters["run"]["store"]))


@contextmanager
def opened(
    metadata: ProjectMetadata, env: str | None, params: dict[str, Any] | None = None
) -> Iterator[Project]:
    """Open the project in an environment."""
    plain_lines_unless_terminal()
    path = metadata.project_path
    session = KedroSession.create(path, save_on_close=False, env=env, runtime_params=params)
    with session:
        catalog = session.load_context().catalog
        yield Project(path, catalog, plain_parameters(catalog))


def data_folders(project: Path) -> set[Path]:
    """Return the data folder of every environment: any of them may name a stored result."""
    conf = project / settings.CONF_SOURCE
    folders = set()
    for env in (entry.name for entry in conf.iterdir() if entry.is_dir()):
        loader = settings.CONFIG_LOADER_CLASS(
            conf_source=str(conf), env=env, **settings.CONFIG_LOADER_ARGS
        )
        folders.add((project / loader["globals"]["data"]).resolve())
    return {folder for folder in folders if folder.is_dir()}


def env_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--env``, as Kedro's own commands have it."""
    return click.option(
        "--env", "-e", default=None, help="Kedro configuration environment: base, h100, ..."
    )(command)
