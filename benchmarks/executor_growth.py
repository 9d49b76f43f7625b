"""Does an evaluation cost the same, and memory stay flat, from 1,000 evaluations to 10,000?

Each run is a process of its own: an executor of two workers, a generator of items with a program of
2 kB each, results of about 2 kB, everything recorded in a journal. Runs alternate, so that a busy
machine is busy for both; per size the fastest counts. Then the same call again, when all is in the
journal: a resume costs no work. Usage:

    python benchmarks/executor_growth.py [--items 1000]

Memory is the peak resident size of the parent, and of its largest worker. Exit status 1 when a
ratio is above its goal.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

GOAL = 1.25
GROWTH = 10
ROUNDS = 3
HERE = "executor_growth"


def evaluate(item: dict, state: object) -> dict:
    """Compile a program and hand back what was found, as an evaluation without its sandbox."""
    compile(item["program"], "program", "exec")
    return {"number": item["number"], "tests": {f"test_{n}": "passed" for n in range(60)}}


def items(count: int) -> Iterator[dict]:
    """Programs of 2 kB, each another one."""
    for number in range(count):
        lines = "".join(f"x{n} = {number} + {n}\n" for n in range(110))
        yield {"number": number, "program": lines}


def run(count: int, folder: Path) -> dict[str, float]:
    """Map over all items in this process; return seconds and peak memory in MB."""
    from curricle.config.execution import ExecutorParameters
    from curricle.execution.executor import create_executor
    from curricle.execution.journal import Journal

    found: dict[str, float] = {}
    with create_executor(ExecutorParameters(workers=2)) as executor:
        with Journal(folder / "warm") as journal:  # starting workers is no cost of an item
            list(executor.map(f"{HERE}:evaluate", items(20), journal))
        for name in ("seconds", "resume_seconds"):
            begun = time.perf_counter()
            with Journal(folder / "journal") as journal:
                done = sum(1 for _ in executor.map(f"{HERE}:evaluate", items(count), journal))
            found[name] = time.perf_counter() - begun
            assert done == count
    found["parent_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["worker_mb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return found


def measure(count: int) -> dict[str, float]:
    """Run in a child process, so that neither time nor memory is shared."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--run", str(count), "--folder", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    """Run the comparison; 0 when all ratios reach the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(arguments.run, arguments.folder)))
        return 0
    sizes = (arguments.items, arguments.items * GROWTH)
    rounds: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(ROUNDS):
        for size in sizes:
            rounds[size].append(measure(size))
            numbers = " ".join(f"{key}={value:.2f}" for key, value in rounds[size][-1].items())
            print(f"{size} items: {numbers}", flush=True)
    small, large = ({k: min(r[k] for r in rounds[s]) for k in rounds[s][0]} for s in sizes)
    ratios = {
        "time": large["seconds"] / (GROWTH * small["seconds"]),
        "resume": large["resume_seconds"] / (GROWTH * small["resume_seconds"]),
        "parent_memory": large["parent_mb"] / small["parent_mb"],
        "worker_memory": large["worker_mb"] / small["worker_mb"],
    }
    for name, ratio in ratios.items():
        print(f"executor_growth_{name} ratio={ratio:.2f} goal={GOAL}")
    return int(max(ratios.values()) > GOAL)


if __name__ == "__main__":
    sys.exit(main())
