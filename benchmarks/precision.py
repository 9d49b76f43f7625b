"""The precision that the probe picks, against the better of fp32 and bf16, on training steps."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import torch
from training_throughput import TOKENS_PER_STEP, VOCABULARY, make_model

from curricle.engine.objectives import summed_loss
from curricle.engine.precision import autocast, probe_job
from curricle.launch.job import Job

GOAL = 1.05
ROUNDS = 5


def step_seconds(precision: str) -> float:
    """Return the median seconds of a forward and backward pass."""
    model = make_model()
    ids = torch.randint(4, VOCABULARY, (TOKENS_PER_STEP // 256, 256))
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with autocast(precision):
            loss = summed_loss(model, {"input_ids": ids, "labels": ids})
        loss.backward()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> int:
    """Print how much slower than the better precision the picked one is."""
    here = Path()
    job = Job(kind="probe_precision", step="bench", inputs={}, parameters={}, precision="fp32",
              output=here, resume=here)  # fmt: skip
    probe = probe_job(job).effective
    seconds = {precision: step_seconds(precision) for precision in ("fp32", "bf16")}
    print(f"probe: {probe}; seconds a step: {seconds}")
    ratio = seconds[probe["precision"]] / min(seconds.values())
    print(f"precision ratio={ratio:.3f} goal={GOAL}")
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
