"""Trackers get the curve; nothing leaves the machine unless it is asked to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from curricle.engine.pretraining import pretrain_job
from curricle.engine.tracking import tracked
from curricle.errors import ConfigError
from tests.engine.conftest import MakeJob
from tests.engine.test_pretraining import PARAMETERS

STEPS = 3


@pytest.fixture
def train(
    make_job: MakeJob, initial: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return the folder of the trackers, with none of the user's own settings in force."""
    for name in ("WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    return tmp_path / "tracking"


@pytest.mark.parametrize("tracking", ["wandb", "mlflow"])
def test_a_curve_reaches_the_tracker_and_stays_on_this_machine(
    tracking: str, train: Path, make_job: MakeJob, initial: Path, packed: Path
) -> None:
    job = make_job("pretrain", {**PARAMETERS, "max_steps": STEPS}, start=initial, data=packed)
    pretrain_job(job.model_copy(update={"tracking": tracking, "tracking_folder": train}))
    if tracking == "wandb":
        assert os.environ["WANDB_MODE"] == "offline"
        (run,) = (train / "wandb").glob("offline-run-*/run-*.wandb")
        assert run.stat().st_size > 0
        return
    import mlflow

    (experiment,) = mlflow.search_experiments(filter_string="name = 'curricle'")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == list(range(1, len(history) + 1))
    assert history[0].value == pytest.approx(6.24, abs=0.2)


def test_a_tracker_that_is_not_installed_names_the_extra(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    job = make_job("pretrain", {}).model_copy(
        update={"tracking": "wandb", "tracking_folder": tmp_path}
    )
    with pytest.raises(ConfigError, match=r"pip install 'curricle\[wandb\]'"), tracked(job):
        pass
