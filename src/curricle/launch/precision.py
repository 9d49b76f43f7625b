"""Chooses the precision of a job before it runs, so that it can be part of the fingerprint.

A CPU is measured, never assumed: bf16 is twice as fast as fp32 on one with AVX512-BF16 and up to
600 times slower on one with AVX2 only. The measurement takes half a second and is kept for each
kind of machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import re
from pathlib import Path
from typing import Any

from curricle.checkpoints.datasets import replace_json
from curricle.checkpoints.hashing import hash_value
from curricle.config.base import RunSettings
from curricle.errors import ConfigError
from curricle.launch.job import JOB_KINDS, Job

logger = logging.getLogger(__name__)

_PRECISIONS = ("fp32", "bf16", "fp8")


def effective_precision(run: RunSettings, requested: str, parameters: dict[str, Any]) -> str:
    """Return the precision that a job runs in: the requested one, or the faster by measurement.

    Raises:
        ConfigError: the requested precision is unknown.
    """
    if requested in _PRECISIONS:
        return requested
    if requested != "auto":
        raise ConfigError(
            f"precision={requested!r} is unknown. Use auto, {', '.join(_PRECISIONS)}."
        )
    record = precision_record(run.store)
    if record.exists():
        return str(json.loads(record.read_text())["precision"])
    from curricle.launch.run import run_job

    record.parent.mkdir(parents=True, exist_ok=True)
    job = Job(kind="probe_precision", step="probe", inputs={}, parameters={}, precision="fp32",
              output=record.parent, resume=record.parent, threads=run.threads)  # fmt: skip
    probe = run_job(job, run).effective
    replace_json(record, {"machine": machine_kind(), **probe})
    logger.info("precision: %s by measurement (%s)", probe["precision"], probe["gflops"])
    return str(probe["precision"])


def precision_record(store: Path) -> Path:
    """Return where the measurement of this kind of machine is kept."""
    measured = {**machine_kind(), "revision": str(JOB_KINDS["probe_precision"].revision)}
    return store / "machines" / f"{hash_value(measured)[:16]}.json"


def machine_kind() -> dict[str, str]:
    """Describe what decides how fast this machine computes: processor, cores and torch."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        flags = re.search(r"^flags\s*:\s*(.*)$", text, re.M)
        model = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
        processor = f"{model.group(1) if model else ''} {flags.group(1) if flags else ''}"
    except OSError:
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor.strip(),
        "cores": str(len(os.sched_getaffinity(0))),
        "torch": importlib.metadata.version("torch"),
    }
