"""Rewards per second of the grader against a fresh `python -m pytest` for each candidate.

Both run in the same sandbox, with the same number of workers, over the same packages and the same
byte code. The peer only runs the test file of the function and looks at the exit status; ours goes
through all layers, for honest repairs, which none of them stops early. What is known of a task
before any candidate (known-bad check, drawn answers) is computed before the clock starts; no grade
is ever taken from a cache, for every candidate is another text.
"""

import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from curricle_python.backend import PythonBackend
from curricle_python.running import ENVIRONMENT
from curricle_python.toolchain import PYTHON, SITE

from curricle.checkpoints.hashing import hash_tree
from curricle.execution.baselines import Baselines
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.evaluate import evaluate, prepare_project
from curricle.execution.grader import grade
from curricle.execution.limits import Limits
from curricle.languages import BugTask, Command, Level, Mutant, Patch, Project, ProjectMutant
from curricle.languages.commands import WORK

GOAL = 8.0
FILE, FUNCTION, TESTS = "src/textkit/runs.py", "encode_runs", "tests/test_runs.py"
ORIGINAL, BROKEN = "runs[-1][1] + 1", "runs[-1][1] + 2"
BACKEND = PythonBackend()
LIMITS = Limits(wall_s=60)
ROUNDS, CANDIDATES = 5, 8
WORKERS = 2
PEERS = {
    "python -m pytest": {},
    "python -m pytest without plugins": {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
}


class Bench:
    """One worker's sandbox, task and caches; made once in each worker."""

    def __init__(self, store: str) -> None:
        sample = next(s for s in BACKEND.samples() if s["name"] == "textkit")
        root = Path(sample["path"])
        project = Project(
            "textkit", "python", root, hash_tree(root), tuple(sample["sources"]),
            tuple(sample["tests"]), sample["options"],
        )  # fmt: skip
        self.sandbox = BubblewrapSandbox()
        self.prepared = prepare_project(BACKEND, project, Path(store), self.sandbox, LIMITS)
        self.baselines = Baselines(Path(store) / "baselines")
        self.source = self.prepared.project.read(FILE)
        start = self.source.index(ORIGINAL)
        line = self.source[:start].count("\n") + 1
        mutant = Mutant("by_hand", start, start + len(ORIGINAL), ORIGINAL, BROKEN, line)
        broken = ProjectMutant("textkit", "python", FILE, FUNCTION, mutant, "builtin", "1")
        changes = broken.changes(self.prepared.project)
        before = evaluate(BACKEND, self.prepared, {}, Level.TEST, self.sandbox, LIMITS)
        after = evaluate(BACKEND, self.prepared, changes, Level.TEST, self.sandbox, LIMITS)
        failing = sorted(before.passed - after.passed)
        self.task = BugTask(
            broken, project.digest, tuple(failing[::2]), tuple(failing[1::2]),
            tuple(sorted(before.passed & after.passed)), "",
        )  # fmt: skip

    def ours(self, number: int) -> None:
        """Grade a candidate by every layer."""
        graded = grade(
            self.task, Patch({FILE: f"{self.source}\n# candidate {number}\n"}), self.prepared,
            BACKEND, self.sandbox, LIMITS, number, baselines=self.baselines,
        )  # fmt: skip
        assert graded.reward == 1.0, graded.reason

    def warm_peer(self) -> None:
        """Let the peer write its byte code once, of all that it loads."""
        work, cache = self.prepared.project.root, self.prepared.cache
        assert cache is not None
        output = self.sandbox.prepare(
            self.peer_command({}), work, cache, LIMITS, binds=BACKEND.binds()
        )
        assert output.exit_code == 0, output.stdout + output.stderr

    def peer_command(self, environment: dict[str, str]) -> Command:
        """A fresh process over the one test file."""
        return Command(
            (PYTHON, "-m", "pytest", "-q", TESTS),
            env={
                "PYTHONPATH": f"{WORK}/src:{SITE}",
                "PYTHONPYCACHEPREFIX": ENVIRONMENT["PYTHONPYCACHEPREFIX"],
                **environment,
            },
        )

    def peer(self, number: int, environment: dict[str, str]) -> None:
        """Run a candidate's tests in a fresh process."""
        command = self.peer_command(environment)
        output = self.sandbox.run(
            command, self.prepared, {FILE: f"{self.source}\n# candidate {number}\n"}, LIMITS,
            binds=BACKEND.binds(),
        )  # fmt: skip
        assert output.exit_code == 0, output.stdout + output.stderr


_BENCH: list[Bench] = []


def start(store: str) -> None:
    """Set a worker up."""
    _BENCH.append(Bench(store))


def work(job: tuple[str, int]) -> None:
    """Do one job in a worker."""
    way, number = job
    if way == "ours":
        _BENCH[0].ours(number)
    else:
        _BENCH[0].peer(number, PEERS[way])


def main() -> int:
    """Print both rates and their ratio."""
    rates: dict[str, list[float]] = {"ours": [], **{peer: [] for peer in PEERS}}
    with tempfile.TemporaryDirectory() as store:
        first = Bench(store)
        first.warm_peer()
        first.sandbox.close()
        with ProcessPoolExecutor(WORKERS, initializer=start, initargs=(store,)) as pool:
            # Every worker meets every set of drawn inputs before the clock starts.
            list(pool.map(work, [("ours", n) for n in range(8 * WORKERS)]))
            number = 1000
            for _ in range(ROUNDS):
                for way, found in rates.items():
                    jobs = [(way, number := number + 1) for _ in range(CANDIDATES)]
                    began = time.perf_counter()
                    list(pool.map(work, jobs))
                    found.append(CANDIDATES / (time.perf_counter() - began))
    ours = statistics.median(rates.pop("ours"))
    print(f"{WORKERS} workers, load {os.getloadavg()[0]:.1f}, median of {ROUNDS} rounds")
    print(f"all layers: {ours:.1f} rewards/s")
    ratios = {peer: ours / statistics.median(found) for peer, found in rates.items()}
    for peer, found in rates.items():
        print(f"{peer}: {statistics.median(found):.2f} rewards/s, ratio {ratios[peer]:.2f}")
    ratio = ratios["python -m pytest"]
    print(f"rewards_per_second ratio={ratio:.2f} goal={GOAL}")
    return int(ratio < GOAL)


if __name__ == "__main__":
    sys.exit(main())
