"""How long ``kedro registry list`` takes here, against a project that has nothing in it.

The peer is what ``kedro new`` makes, in the same environment: the same Kedro, the same installed
plugins. What is above 1.0 is ours: parameter models, pipelines, hooks. Runs alternate, so that a
busy machine is busy for both; the medians of wall time are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL = 1.5
RUNS = 7
ROOT = Path(__file__).resolve().parent.parent
KEDRO = (sys.executable, "-m", "kedro")
ENVIRONMENT = {**os.environ, "DO_NOT_TRACK": "1"}


def seconds(project: Path) -> float:
    """Return the wall time of one listing."""
    started = time.perf_counter()
    subprocess.run(
        [*KEDRO, "registry", "list"], cwd=project, env=ENVIRONMENT, check=True, capture_output=True
    )
    return time.perf_counter() - started


def main() -> int:
    """Alternate the two projects and compare."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*KEDRO, "new", "--name", "empty", "--tools", "none", "--example", "n"],
            cwd=folder, env=ENVIRONMENT, check=True, capture_output=True,
        )  # fmt: skip
        projects = {"curricle": ROOT, "empty": Path(folder) / "empty"}
        for project in projects.values():  # byte code and disk caches, once for each
            seconds(project)
        times: dict[str, list[float]] = {name: [] for name in projects}
        for _ in range(RUNS):
            for name, project in projects.items():
                times[name].append(seconds(project))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name}: median {medians[name]:.2f} s of {RUNS} ({min(values):.2f} to "
              f"{max(values):.2f})")  # fmt: skip
    ratio = medians["curricle"] / medians["empty"]
    print(f"startup ratio={ratio:.2f} goal={GOAL}")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
