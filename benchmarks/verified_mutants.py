"""Verified mutants per second on a real package, against `mutmut run` on the same mutants.

Ours are each run twice by two methods, checked against the original, and recorded; mutmut runs each
once and stops at its first failing test. Both start from the unpacked package: collecting, tracing
and listing count. Nothing is taken from a cache.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from curricle_python.backend import PythonBackend
from curricle_python.mutmut_tool import Mutmut

from curricle.config.execution import ExecutorParameters
from curricle.config.tasks import ProjectSource, TaskBudget
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.executor import Setup, create_executor
from curricle.execution.journal import Journal
from curricle.execution.projects import ListedProject, obtain_project
from curricle.execution.study import study_project
from curricle.execution.task_worker import OPEN, VERIFY, TaskWorker, limits_of
from curricle.execution.verification import batch_key

GOAL = 3.0
ROUNDS = int(os.environ.get("ROUNDS", "2"))
WORKERS = 2
INFLECTION = ProjectSource(
    package="inflection",
    version="0.5.1",
    sha256="1a29730d366e996aaacffb2f1f1cb9593dc38e2ddd30c91250c6dde09ea9b417",
)
BUDGET = TaskBudget(max_tests=1000, batch=100)


def ours(listed: ListedProject, folder: Path) -> tuple[int, int, float]:
    """Return how many mutants were judged, how many are tasks, and the seconds."""
    from dataclasses import asdict

    started = time.perf_counter()
    backend, limits = PythonBackend(), limits_of(BUDGET)
    run = Path(tempfile.mkdtemp(dir=folder))
    item = {"project": listed.to_json(), "folder": str(folder),
            "budget": BUDGET.model_dump(mode="json")}  # fmt: skip
    with BubblewrapSandbox() as sandbox:
        worker = TaskWorker(backend, sandbox, run / "prepared")
        prepared = worker.prepare(item, limits)
        study = study_project(backend, prepared, sandbox, limits, 0.9)
        tool = Mutmut(left_out=())
        binds = sorted({*backend.binds(), *tool.binds()})
        output = sandbox.run(tool.command(prepared.project, 0), prepared, {}, limits, binds=binds)
        mutants = tool.parse(prepared.project, output)
    (run / "study.json").write_text(json.dumps({"study": study.to_json()}))
    # A batch holds mutants of every function, so that all batches take as long.
    size = -(-len(mutants) // -(-len(mutants) // BUDGET.batch))
    batches = [mutants[start :: -(-len(mutants) // size)] for start in
               range(-(-len(mutants) // size))]  # fmt: skip
    items = {
        batch_key(prepared.digest, study, batch, BUDGET, "train"): {
            **item, "study": str(run / "study.json"), "mutants": [asdict(m) for m in batch],
        }
        for batch in batches
    }  # fmt: skip
    keys = {id(work): key for key, work in items.items()}
    verdicts = []
    setup = Setup(OPEN, {"language": "python", "prepared": str(run / "prepared")})
    with create_executor(ExecutorParameters(workers=WORKERS)) as executor:
        for _, outcome in executor.map(
            VERIFY, items.values(), Journal(run / "journal"), setup=setup,
            key=lambda work: keys[id(work)],
        ):  # fmt: skip
            verdicts.extend(outcome.value["verdicts"])
    seconds = time.perf_counter() - started
    return len(verdicts), sum(verdict["task"] is not None for verdict in verdicts), seconds


def mutmut(root: Path, folder: Path) -> tuple[int, int, float]:
    """Return the same of `mutmut run` in a fresh copy."""
    copy = Path(tempfile.mkdtemp(dir=folder)) / "inflection"
    shutil.copytree(root, copy)
    (copy / "pyproject.toml").write_text(
        '[tool.mutmut]\nsource_paths = ["inflection"]\n'
        'pytest_add_cli_args_test_selection = ["test_inflection.py"]\n'
        'also_copy = ["test_inflection.py"]\n'
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", "run", "--max-children", str(WORKERS)],
        cwd=copy, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    seconds = time.perf_counter() - started
    codes: list[int] = []
    for meta in (copy / "mutants").rglob("*.meta"):
        codes.extend(json.loads(meta.read_text())["exit_code_by_key"].values())
    if not codes:
        raise SystemExit(f"mutmut failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return len(codes), sum(code in (1, 3) for code in codes), seconds


def main() -> int:
    """Alternate the two, print their medians and the ratio."""
    with tempfile.TemporaryDirectory(prefix="curricle-") as name:
        folder = Path(name)
        listed = obtain_project(
            "inflection", INFLECTION, PythonBackend(), folder,
            Path(__file__).parents[1] / "data" / "01_raw" / "projects", 10**8,
        )  # fmt: skip
        rates: dict[str, list[float]] = {"ours": [], "mutmut": []}
        for _ in range(ROUNDS):
            for who, result in (
                ("mutmut", mutmut(listed.project.root, folder)),
                ("ours", ours(listed, folder)),
            ):
                count, killed, seconds = result
                print(f"{who}: {count} mutants, {killed} killed, {seconds:.1f} s")
                rates[who].append(count / seconds)
    medians = {who: statistics.median(found) for who, found in rates.items()}
    print(f"mutants per second: {medians}")
    ratio = medians["ours"] / medians["mutmut"]
    print(f"verified_mutants ratio={ratio:.2f} goal={GOAL}")
    return int(ratio < GOAL)


if __name__ == "__main__":
    sys.exit(main())
