"""Jobs in a child process: the same result, the same words, and no orphans."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curricle.checkpoints.store import Built, Store, Stored
from curricle.config.base import RunSettings
from curricle.config.training import PretrainParameters
from curricle.errors import CurricleError, JobFailed
from curricle.launch.job import Job
from curricle.launch.run import obtain_by_job, run_job
from tests.engine.conftest import OVERRIDES, describe_job

PATIENCE_S = 60.0

PRETRAIN = PretrainParameters(
    learning_rate=5e-3, tokens_per_step=512, max_steps=3, precision="fp32"
).model_dump()

PARENT = """
import sys
from pathlib import Path
from curricle.config.base import RunSettings
from curricle.errors import Interrupted
from curricle.launch.job import Job
from curricle.launch.run import run_job

job = Job.model_validate_json(Path(sys.argv[1]).read_text())
try:
    run_job(job, RunSettings(store=job.output, launch="child"))
except Interrupted as error:
    sys.exit(str(error))
"""


def settings(folder: Path, launch: str) -> RunSettings:
    return RunSettings.model_validate({"store": folder, "launch": launch, "threads": 1})


def stored(root: Path, step: str, folder: Path) -> Stored:
    """A folder as a result of the store."""

    def build(result: Path, resume: Path) -> Built:
        shutil.copytree(folder, result, dirs_exist_ok=True)
        return Built()

    return Store(root).obtain(step, {"of": step}, build)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}"
        time.sleep(0.05)
    return found


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in listed.read_text().split()]


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def long_job(initial: Path, packed: Path, tmp_path: Path) -> Job:
    """A training job of thousands of steps, which saves after each."""
    parameters = {**PRETRAIN, "max_steps": None, "epochs": 1000}
    job = describe_job(tmp_path / "job", "pretrain", parameters, start=initial, data=packed)
    return job.model_copy(update={"checkpoint_every_s": 0.2})


@pytest.fixture
def parent(long_job: Job, tmp_path: Path) -> Any:
    """A process whose child has saved its first trainer checkpoint."""
    description = tmp_path / "description.json"
    description.write_text(long_job.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(description)], stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: list(long_job.resume.glob("*/manifest.json")), "the first checkpoint")
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_child_makes_the_same_result_as_this_process(
    initial: Path, packed: Path, tmp_path: Path
) -> None:
    results = {}
    for launch in ("in_process", "child"):
        run = settings(tmp_path / launch, launch)
        inputs = {
            "start": stored(run.store, "start", initial),
            "data": stored(run.store, "data", packed),
        }
        results[launch] = obtain_by_job(run, "pretrain.train", "pretrain", inputs, PRETRAIN)
    assert results["in_process"].digest == results["child"].digest
    assert results["in_process"].fingerprint == results["child"].fingerprint
    assert results["child"].manifest().measured["seconds"] > 0


@pytest.mark.parametrize("launch", ["in_process", "child"])
def test_what_the_user_can_mend_arrives_in_the_same_words(
    tokenizer_folder: Path, tmp_path: Path, launch: str
) -> None:
    overrides = {**OVERRIDES, "vocab_size": 300}
    parameters = {"architecture": "llama_small", "overrides": overrides, "seed": 0}
    job = describe_job(tmp_path / "job", "init", parameters, tokenizer=tokenizer_folder)
    with pytest.raises(CurricleError) as caught:
        run_job(job, settings(tmp_path, launch))
    assert str(caught.value) == (
        "The tokenizer has 512 entries, the embedding of llama_small 300. Lower "
        "corpus.tokenizer.vocab_size or set pretrain.prepare.overrides.vocab_size."
    )
    if launch == "child":
        assert "Traceback" not in (tmp_path / "job" / "job.log").read_text()


def test_a_crash_names_the_log_and_shows_its_end(
    initial: Path, packed: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(initial, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    job = describe_job(tmp_path / "job", "pretrain", PRETRAIN, start=broken, data=packed)
    with pytest.raises(JobFailed) as caught:
        run_job(job, settings(tmp_path, "child"))
    log = tmp_path / "job" / "job.log"
    assert f"pretrain: its process ended with status 1. Log: {log}" in str(caught.value)
    assert "Traceback" in log.read_text()
    assert log.read_text().splitlines()[-1] in str(caught.value)


def test_a_child_ends_after_its_parent_is_killed_and_the_next_run_waits_for_it(
    parent: subprocess.Popen[str], long_job: Job, tmp_path: Path
) -> None:
    (child,) = children(parent.pid)
    os.kill(child, signal.SIGSTOP)  # as if its last save took long
    parent.kill()
    parent.wait()
    following = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "description.json")],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            following.wait(timeout=2)
        assert is_alive(child) and children(following.pid) == [], "two writers"
        os.kill(child, signal.SIGCONT)
        wait_for(lambda: children(following.pid), "the next child")
        assert not is_alive(child)
        assert list(long_job.resume.glob("checkpoint-*/manifest.json"))
    finally:
        following.kill()
        following.communicate()


def test_a_signal_to_the_parent_lets_the_child_save_and_stop(
    parent: subprocess.Popen[str], long_job: Job
) -> None:
    (child,) = children(parent.pid)
    parent.send_signal(signal.SIGTERM)
    _, said = parent.communicate(timeout=PATIENCE_S)
    assert not is_alive(child)
    assert parent.returncode == 1
    assert said.strip() == "pretrain: stopped by SIGTERM; run the same command again"
    assert list(long_job.resume.glob("checkpoint-*/manifest.json"))
    assert not list(long_job.output.iterdir())
