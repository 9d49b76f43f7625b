"""Kill the curriculum wherever it stands, run the same command again: the result is the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Project

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(1800)]

STEPS = {"pretrain": 20, "sft": 12, "dpo": 12, "lora": 12}
PATIENCE_S = 300.0


def newest_checkpoint(project: Project, stage: str) -> int:
    """The newest step that a stage's unfinished training has saved; 0 for none."""
    saved = (project.store / f"{stage}.train").glob("*.partial/resume/checkpoint-*/manifest.json")
    return max((int(path.parent.name.rpartition("-")[2]) for path in saved), default=0)


def is_trained(project: Project, stage: str) -> bool:
    return any((project.store / f"{stage}.train").glob("*/manifest.json"))


def stop_at(project: Project, stage: str, step: int, number: signal.Signals) -> int:
    """Run the curriculum, send a signal when a stage has saved a step; return the exit status."""
    process = project.start("--pipelines", "general")
    deadline = time.monotonic() + PATIENCE_S
    try:
        while newest_checkpoint(project, stage) < step and not is_trained(project, stage):
            assert process.poll() is None, process.communicate()[0][-3000:]
            assert time.monotonic() < deadline, f"{stage} never saved step {step}"
            time.sleep(0.002)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{number.name} at {stage}, step {step}: it went on")
    finally:
        process.kill()
        process.communicate()
    return process.returncode


def test_a_curriculum_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    reference: Project, tmp_path: Path
) -> None:
    seed = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(1000))
    print(f"KILL_SEED={seed} repeats this")  # shown when the test fails
    draw = random.Random(seed)
    project = Project.create(tmp_path / "project")
    stops = [
        ("pretrain", signal.SIGKILL),
        ("pretrain", signal.SIGTERM),
        ("sft", signal.SIGKILL),
        ("dpo", signal.SIGINT),
        ("lora", signal.SIGKILL),
    ]
    often = Counter(stage for stage, _ in stops)
    steps = {
        stage: iter(sorted(draw.sample(range(1, STEPS[stage] - 4), count)))
        for stage, count in often.items()
    }
    for stage, number in stops:
        step = next(steps[stage])
        print(f"{number.name} after step {step} of {stage}")
        assert stop_at(project, stage, step, number) != 0
    done = project.run("--pipelines", "general")
    assert done.returncode == 0, done.stdout[-6000:]
    assert project.digests() == reference.digests()
    assert project.certificates() == reference.certificates()
    assert not list(project.store.glob("*/*.partial"))
