"""Rollouts into a file: finished conversations survive whatever happens, and order is the tasks'.

Conversations end in any order, so each is appended to a journal at once; when all are there the
file is written in the order of the tasks and the journal goes. The same call continues a journal.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from curricle.agents.conversation import Renderer, RolloutTask, Trajectory
from curricle.agents.generator import Generator
from curricle.agents.rollout import run_rollouts
from curricle.checkpoints.store import storage_errors
from curricle.config.generation import RolloutParameters
from curricle.errors import Interrupted
from curricle.launch.signals import stop_on_signal

logger = logging.getLogger(__name__)

_AGAIN = frozenset({"infrastructure", "generator"})


def record_rollouts(
    path: Path,
    tasks: Sequence[RolloutTask],
    generator: Generator,
    renderer: Renderer | None,
    parameters: RolloutParameters,
    *,
    max_new_tokens: int = 128,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Trajectory]:
    """Have all conversations, and write them to ``path``, one JSON row each.

    Args:
        path: the file; its journal ``<path>.partial`` stands beside it meanwhile.
        tasks: the conversations; those that the journal holds are not had again, but for those
            that ended by a fault of the machine or of the generator.
        generator: answers; stays open.
        renderer: see :func:`curricle.agents.rollout.run_rollouts`.
        parameters: budgets.
        max_new_tokens: of one answer.
        on_progress: called with how many are done, of how many.

    Returns:
        The trajectories, in the order of the tasks.

    Raises:
        Interrupted: a signal arrived; everything finished is in the journal.
        StoreError: the disk is full or read-only.
    """
    journal = path.with_name(path.name + ".partial")
    names = {task.name for task in tasks}
    kept = {
        trajectory.task: trajectory
        for trajectory in read_trajectories(journal)
        if trajectory.task in names and trajectory.end not in _AGAIN
    }
    if kept:
        logger.info("rollouts: %d of %d were had already", len(kept), len(tasks))
    remaining = [task for task in tasks if task.name not in kept]
    with storage_errors(path.parent), stop_on_signal() as stop:
        _rewrite(journal, list(kept.values()))
        with journal.open("a", encoding="utf-8") as stream:
            for trajectory in run_rollouts(
                remaining, generator, renderer, parameters,
                max_new_tokens=max_new_tokens, should_stop=lambda: bool(stop),
            ):  # fmt: skip
                kept[trajectory.task] = trajectory
                stream.write(_line(trajectory))
                stream.flush()
                os.fsync(stream.fileno())
                on_progress(len(kept), len(tasks))
        if stop and len(kept) < len(tasks):
            raise Interrupted(
                f"{stop.signal_name}: {len(kept)} of {len(tasks)} conversations are kept in "
                f"{journal}; the same command continues with the rest.",
                stop.signal_name,
            )
        ordered = [kept[task.name] for task in tasks]
        _rewrite(path, ordered)
        journal.unlink()
    return ordered


def read_trajectories(path: Path) -> list[Trajectory]:
    """Read a file of trajectories, or a journal; a line that was torn by a kill is left out."""
    if not path.exists():
        return []
    trajectories = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            trajectories.append(Trajectory.from_row(json.loads(line)))
        except (ValueError, TypeError, KeyError):
            logger.warning("%s: a torn line is left out", path)
    return trajectories


def _rewrite(path: Path, trajectories: Sequence[Trajectory]) -> None:
    """Replace a file at once, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as stream:
        stream.writelines(map(_line, trajectories))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def _line(trajectory: Trajectory) -> str:
    return json.dumps(trajectory.to_row(), ensure_ascii=False) + "\n"
