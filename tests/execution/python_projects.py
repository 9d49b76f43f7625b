"""The samples of curricle-python as projects, for tests that run them."""

from pathlib import Path

from curricle_python.backend import PythonBackend
from curricle_python.samples import SAMPLES

from curricle.checkpoints.hashing import hash_tree
from curricle.execution.evaluate import evaluate
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages import BugTask, Level, Mutant, Prepared, Project, ProjectMutant


def sample_project(name: str) -> Project:
    (sample,) = [sample for sample in SAMPLES if sample["name"] == name]
    root = Path(sample["path"])
    return Project(
        name, "python", root, hash_tree(root), tuple(sample["sources"]), tuple(sample["tests"]),
        sample["options"],
    )  # fmt: skip


BACKEND = PythonBackend()
LIMITS = Limits(wall_s=30)


def bug_task(
    prepared: Prepared, sandbox: Sandbox, file: str, function: str, original: str, replacement: str
) -> BugTask:
    """The task of replacing one text by another in a file; every second failing one is held out."""
    text = prepared.project.read(file)
    start = text.encode().index(original.encode())
    mutant = Mutant(
        "by_hand", start, start + len(original.encode()), original, replacement,
        text[: text.index(original)].count("\n") + 1,
    )  # fmt: skip
    project_mutant = ProjectMutant(
        prepared.project.name, "python", file, function, mutant, "builtin", "1"
    )
    broken = project_mutant.changes(prepared.project)
    before = evaluate(BACKEND, prepared, {}, Level.TEST, sandbox, LIMITS)
    after = evaluate(BACKEND, prepared, broken, Level.TEST, sandbox, LIMITS)
    failing = sorted(before.passed - after.passed)
    assert failing, f"no test notices {original!r} -> {replacement!r}"
    return BugTask(
        project_mutant, prepared.project.digest, tuple(failing[::2]), tuple(failing[1::2]),
        tuple(sorted(before.passed & after.passed)), "",
    )  # fmt: skip
