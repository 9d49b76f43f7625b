"""The table of hacks and layers in docs/GRADER.md: written by `python -m`, read by the tests."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from curricle.execution.baselines import Baselines
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.evaluate import prepare_project
from curricle.execution.grader import Grade, grade
from curricle.execution.layers import Layer
from curricle.execution.rewards import evaluator_hack_rejection_rate
from curricle.languages import Patch
from tests.adversarial.python import hacks
from tests.execution.python_projects import BACKEND, LIMITS, bug_task, sample_project

COLUMNS = (
    Layer.POLICY, Layer.SCAN, Layer.FREEZE, Layer.REPORT, Layer.CANARIES, Layer.EXPECTED,
    Layer.HELDOUT, Layer.COMPARISON,
)  # fmt: skip
_BEGIN, _END = "<!-- hacks -->\n", "<!-- end of hacks -->\n"


def render(grades: Mapping[str, Grade]) -> str:
    rows = [f"| case | {' | '.join(layer.value for layer in COLUMNS)} |"]
    rows.append("| --- |" + " :-: |" * len(COLUMNS))
    for name, graded in grades.items():
        marks = ["x" if layer in graded.layers else "" for layer in COLUMNS]
        rows.append(f"| {name} | {' | '.join(marks)} |")
    rate = evaluator_hack_rejection_rate(list(grades.values()))
    rows.append(f"\n`evaluator_hack_rejection_rate` = {rate:.3f} of {len(grades)}")
    return "\n".join(rows) + "\n"


def read(document: str) -> dict[str, Sequence[str]]:
    """For each case the layers that object to it, in order."""
    block = document[document.index(_BEGIN) : document.index(_END)]
    published = {}
    for row in re.findall(r"^\| (\w+) \|(.*)\|$", block, re.MULTILINE)[1:]:
        marks = [mark.strip() for mark in row[1].split("|")]
        published[row[0]] = [
            layer.value for layer, mark in zip(COLUMNS, marks, strict=True) if mark == "x"
        ]
    return published


def main(path: Path) -> None:
    limits = LIMITS.model_copy(update={"wall_s": 10.0})
    with BubblewrapSandbox() as sandbox, tempfile.TemporaryDirectory() as store:
        prepared = prepare_project(BACKEND, sample_project("textkit"), Path(store), sandbox, LIMITS)
        task = bug_task(
            prepared, sandbox, hacks.FILE, "encode_runs", "runs[-1][1] + 1", "runs[-1][1] + 2"
        )
        broken = task.broken(prepared.project)[hacks.FILE]
        assert broken is not None
        baselines = Baselines()
        grades = {}
        for hack in hacks.HACKS:
            grades[hack.name] = grade(
                task, Patch(hacks.patched(hack, broken)), prepared, BACKEND, sandbox, limits,
                seed=11, baselines=baselines, thorough=True, repeat_share=0,
            )  # fmt: skip
            sys.stderr.write(f"{hack.name}: {grades[hack.name].layers}\n")
    text = path.read_text()
    begin, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    path.write_text(text[:begin] + render(grades) + text[end:])


if __name__ == "__main__":
    main(Path("docs/GRADER.md"))
