"""Precision is measured once per machine, asked for by name, and never another than it says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from curricle.config.base import RunSettings
from curricle.engine.precision import Shape, Witness, autocast, gflops, probe_job
from curricle.errors import ConfigError
from curricle.launch.precision import effective_precision, machine_kind
from tests.engine.conftest import MakeJob


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    return RunSettings(store=tmp_path / "store", launch="in_process", threads=1)


def record(run: RunSettings) -> Path:
    (path,) = (run.store / "machines").glob("*.json")
    return path


def test_the_probe_names_the_faster_one_with_both_rates_in_a_moment(make_job: MakeJob) -> None:
    job = make_job("probe_precision", {})
    started = time.monotonic()
    measured = probe_job(job).effective
    assert time.monotonic() - started < 1.0
    rates = measured["gflops"]
    assert set(rates) == {"fp32", "bf16"} and min(rates.values()) > 0
    assert measured["precision"] == max(rates, key=rates.__getitem__)


SMALL, LARGE = (100, 100, 100), (200, 200, 200)


class Contestant:
    """Takes the given milliseconds, call by call, and the last ones from then on."""

    def __init__(self, *milliseconds: float) -> None:
        self.milliseconds = list(milliseconds)
        self.shapes: list[Shape] = []

    def __call__(self, shape: Shape) -> float:
        self.shapes.append(shape)
        rest = self.milliseconds
        return (rest.pop(0) if len(rest) > 1 else rest[0]) / 1e3


def test_the_making_of_a_kernel_does_not_decide() -> None:
    rates = gflops({"slow": Contestant(3), "fast": Contestant(20, 1)}, (SMALL,), 0.025)
    assert rates == {"slow": 2.0, "fast": 6.0}


def test_a_neighbour_that_slows_some_turns_does_not_decide() -> None:
    rates = gflops({"slow": Contestant(3), "fast": Contestant(1, 9, 9, 1, 9)}, (SMALL,), 0.03)
    assert rates == {"slow": 2.0, "fast": 6.0}


def test_one_that_is_far_behind_costs_one_product_and_is_compared_by_that() -> None:
    behind = Contestant(900)
    rates = gflops({"ahead": Contestant(1), "behind": behind}, (SMALL, LARGE), 0.1)
    assert behind.shapes == [SMALL]
    assert rates == {"ahead": 6.0, "behind": 0.0}


def test_auto_measures_and_keeps_what_it_found(run: RunSettings) -> None:
    chosen = effective_precision(run, "auto", {})
    kept = json.loads(record(run).read_text())
    assert kept["precision"] == chosen in {"fp32", "bf16"}
    assert kept["machine"] == machine_kind()


def test_what_was_found_is_used_again(run: RunSettings) -> None:
    chosen = effective_precision(run, "auto", {})
    other = {"fp32": "bf16", "bf16": "fp32"}[chosen]
    kept = json.loads(record(run).read_text())
    record(run).write_text(json.dumps({**kept, "precision": other}))
    assert effective_precision(run, "auto", {}) == other


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8"])
def test_an_explicit_one_is_never_probed(run: RunSettings, precision: str) -> None:
    assert effective_precision(run, precision, {}) == precision
    assert not run.store.exists()


def test_an_unknown_one_is_named_with_those_that_exist(run: RunSettings) -> None:
    with pytest.raises(
        ConfigError, match=r"precision='fp16' is unknown. Use auto, fp32, bf16, fp8"
    ):
        effective_precision(run, "fp16", {})


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_a_forward_pass_runs_in_what_was_asked_for(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(precision):
        assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_fp8_is_refused_where_bf16_would_take_its_place() -> None:
    with pytest.raises(ConfigError, match="precision=fp8 is not available here"):
        autocast("fp8")


@pytest.mark.parametrize(("asked", "told"), [("bf16", "torch.float32"), ("fp32", "torch.bfloat16")])
def test_training_in_another_precision_than_asked_for_is_an_error(asked: str, told: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    witness = Witness(model)
    with autocast("fp32" if asked == "bf16" else "bf16"):
        model(torch.ones(1, 4))
    with pytest.raises(ConfigError, match=f"a_stage: precision {asked} was asked for, {told} is"):
        witness.require(asked, "a_stage")
