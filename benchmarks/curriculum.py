"""A base run in a fresh data folder: minutes, peak memory, and a second run of nothing.

Of the default run, which holds all curricula, against thirty minutes, 10 GB and 30 s; with
``--general`` of the general curriculum alone, against six minutes, 4 GB and 15 s.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
GENERAL = "--general" in sys.argv
PIPELINES = ["--pipelines", "general,report"] if GENERAL else []
RUN_GOAL_S = 360.0 if GENERAL else 1800.0
MEMORY_GOAL_GB = 4.0 if GENERAL else 10.0
AGAIN_GOAL_S = 15.0 if GENERAL else 30.0


def run(folder: Path) -> float:
    """Run the pipelines in a project; return the seconds."""
    started = time.monotonic()
    kedro = Path(sys.executable).with_name("kedro")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "KEDRO_DISABLE_TELEMETRY": "1"}
    subprocess.run([kedro, "run", *PIPELINES], cwd=folder, check=True, env=environment)
    return time.monotonic() - started


def main() -> int:
    """Run twice in a copy of the project's configuration."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        for part in ("conf", "src"):
            shutil.copytree(PROJECT / part, folder / part)
        for part in ("pyproject.toml", ".telemetry"):
            shutil.copy(PROJECT / part, folder / part)
        first, again = run(folder), run(folder)
    memory_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"base run {first:.0f} s, peak memory {memory_gb:.2f} GB, second run {again:.1f} s")
    print(f"second_run ratio={again / AGAIN_GOAL_S:.3f} goal=1.0")
    print(f"base_memory ratio={memory_gb / MEMORY_GOAL_GB:.3f} goal=1.0")
    print(f"base_run ratio={first / RUN_GOAL_S:.3f} goal=1.0")
    return int(first > RUN_GOAL_S or memory_gb > MEMORY_GOAL_GB or again > AGAIN_GOAL_S)


if __name__ == "__main__":
    sys.exit(main())
