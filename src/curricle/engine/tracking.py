"""Sends a training curve to an experiment tracker while it grows; optional.

Weights & Biases stays offline unless ``WANDB_MODE`` says otherwise, as the scripts before us did:
a laptop without an account must not stop, and nothing leaves a machine by default.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from curricle.errors import ConfigError
from curricle.launch.job import Job


class Tracker(Protocol):
    """Where the points of a curve go."""

    def log(self, point: Mapping[str, float]) -> None:
        """Record one point; its ``step`` is the position."""


class NoTracker:
    """Records nothing: the curve in the store is the record."""

    def log(self, point: Mapping[str, float]) -> None:
        """Do nothing."""


class WandbTracker:
    """Weights & Biases."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, point: Mapping[str, float]) -> None:
        """Record one point."""
        values = {key: value for key, value in point.items() if key != "step"}
        self._run.log(values, step=int(point["step"]))


class MlflowTracker:
    """MLflow, at the place that ``MLFLOW_TRACKING_URI`` names."""

    def __init__(self, mlflow: Any) -> None:
        self._mlflow = mlflow

    def log(self, point: Mapping[str, float]) -> None:
        """Record one point."""
        values = {key: float(value) for key, value in point.items() if key != "step"}
        self._mlflow.log_metrics(values, step=int(point["step"]))


@contextmanager
def tracked(job: Job) -> Iterator[Tracker]:
    """Yield the tracker that the run settings ask for; close it afterwards, whatever happens.

    A resumed job opens a run of its own: its points continue where the first one's end.

    Raises:
        ConfigError: the tracker's package is not installed.
    """
    if job.tracking == "none":
        yield NoTracker()
        return
    library = _library(job.tracking)
    job.tracking_folder.mkdir(parents=True, exist_ok=True)
    if job.tracking == "wandb":
        os.environ.setdefault("WANDB_MODE", "offline")
        run = library.init(
            project="curricle", name=job.step, config=job.parameters, dir=str(job.tracking_folder)
        )
        try:
            yield WandbTracker(run)
        finally:
            run.finish()
        return
    if "MLFLOW_TRACKING_URI" not in os.environ:
        library.set_tracking_uri(f"sqlite:///{job.tracking_folder}/mlflow.db")
    library.set_experiment("curricle")
    with library.start_run(run_name=job.step):
        library.log_params({f"{job.kind}.{k}": v for k, v in job.parameters.items()})
        yield MlflowTracker(library)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"run.tracking={name} needs a package that is not installed ({error}). "
            f"Install it: pip install 'curricle[{name}]', or set run.tracking=none."
        ) from error
