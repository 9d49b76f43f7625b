"""``kedro run``: Kedro's own command, its options unchanged, that ends clearly."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from curricle.cli.errors import ends_clearly
from curricle.cli.output import plain_lines_unless_terminal


def our_run(command: click.Command) -> click.Command:
    """Return a copy of a run command, wrapped; the original stays as Kedro made it."""
    assert command.callback is not None
    wrapped = copy.copy(command)
    wrapped.callback = ends_clearly(_with_either_option(command.callback))
    return wrapped


def _with_either_option(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``--pipeline X`` mean ``--pipelines X``, without Kedro's warning about it."""

    @functools.wraps(callback)
    def wrapped(*, pipeline: str | None, pipelines: list[str], **options: Any) -> Any:
        plain_lines_unless_terminal()
        if pipeline and not pipelines:
            pipelines, pipeline = [pipeline], None
        return callback(pipeline=pipeline, pipelines=pipelines, **options)

    return wrapped


run = our_run(kedro_run)
