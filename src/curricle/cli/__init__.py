"""The commands of the project; Kedro looks for ``cli`` here.

Only names live in this module: a command is imported when it is called, so that
``kedro registry list`` pays for none of them.
"""

from __future__ import annotations

import click
from kedro.framework.cli.utils import LazyGroup


@click.group(
    name="curricle",
    cls=LazyGroup,
    lazy_subcommands={
        "run": "curricle.cli.run.run",
        "curricle": "curricle.cli.curriculum.curriculum",
    },
)
def cli() -> None:
    """Commands of curricle."""
