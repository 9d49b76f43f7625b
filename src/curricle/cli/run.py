"""``kedro run``: Kedro's own command, its options unchanged, that ends clearly."""

from __future__ import annotations

import copy
import functools
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from curricle.cli.errors import ends_clearly
from curricle.cli.output import plain_lines_unless_terminal
from curricle.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


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
        with signals_interrupt():
            return callback(pipeline=pipeline, pipelines=pipelines, **options)

    return wrapped


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise ``Interrupted`` wherever no job is at work.

    Otherwise a scheduler's SIGTERM between two jobs, or in the middle of making data, would end the
    process without a word and without a report. A job takes its signals itself, saves, and gives
    them back.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise Interrupted(
            f"Stopped by {name}. The same command continues from what is stored.", name
        )

    previous = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


run = our_run(kedro_run)
