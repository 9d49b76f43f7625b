"""The verdict on a patch: the grader's word, and what the other levels find.

One judge for attempts of models and for what needs no model, so that both mean the same. Levels
beside the tests compare the patched tree with the original: what was complained of before the bug
is nobody's fault. What holds no candidate is measured once and kept: the original of a project, and
the bug as it was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from curricle.agents.scoring import Verdict, has_no_new_findings
from curricle.execution.baselines import Baselines
from curricle.execution.evaluate import evaluate
from curricle.execution.grader import grade
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Level
from curricle.languages.evaluation import Evaluation, Finding
from curricle.languages.project import Changes, Prepared
from curricle.languages.tasks import BugTask, Patch


class _Incomplete(Exception):
    """A level could not be measured this time; nothing of it is kept."""


@dataclass(frozen=True)
class Judge:
    """Judges patches.

    Attributes:
        sandbox: Where everything runs.
        limits: Bounds of each run.
        kept: Knows what holds no candidate.
        levels: Levels beside the tests; one that the language does not measure stays `None`.
        seed: Of the canaries and of the comparison with the original.
    """

    sandbox: Sandbox
    limits: Limits
    kept: Baselines = field(default_factory=Baselines)
    levels: Sequence[Level] = ()
    seed: int = 0

    def verdict(
        self, task: BugTask, patch: Patch, prepared: Prepared, backend: LanguageBackend
    ) -> Verdict:
        """What a patch is worth. The empty one fixes nothing, and is measured at all levels.

        Raises:
            InfrastructureFault: The machine failed; nothing is known of the patch.
        """
        fixed: bool | None = False
        fault = ""
        if patch.changes:
            grading = grade(
                task, patch, prepared, backend, self.sandbox, self.limits, self.seed,
                baselines=self.kept,
            )  # fmt: skip
            fixed = None if grading.reward is None else grading.reward == 1.0
            fault = grading.fault
        clean = {
            level: self._is_clean(level, task, patch, prepared, backend) for level in self.levels
        }
        return Verdict(fixed, clean, fault)

    def _is_clean(
        self, level: Level, task: BugTask, patch: Patch, prepared: Prepared,
        backend: LanguageBackend,
    ) -> bool | None:  # fmt: skip
        def measure(changes: Changes) -> Evaluation:
            return evaluate(backend, prepared, changes, level, self.sandbox, self.limits)

        project = prepared.project
        before = self._keep([prepared.digest, level], lambda: measure({}))
        if before is None or before.findings is None:
            return None
        tree = {**task.broken(project), **patch.changes}
        if all(text == project.read(file) for file, text in tree.items()):
            return True
        if patch.changes:
            after = measure(tree)
        else:
            kept = self._keep([prepared.digest, level, task.id], lambda: measure(tree))
            after = kept or Evaluation(complete=False, findings=())
        return has_no_new_findings(before, after)

    def _keep(self, key: list[Any], measure: Any) -> Evaluation | None:
        """The findings of a tree without a candidate; `None` when the tool did not end well."""

        def compute() -> Any:
            measured = measure()
            if not measured.complete:
                raise _Incomplete
            found = measured.findings
            return None if found is None else [[f.file, f.code, f.message] for f in found]

        try:
            rows = self.kept.get(["findings", *key], compute)
        except _Incomplete:
            return None
        findings = None if rows is None else tuple(Finding(f, 0, c, m) for f, c, m in rows)
        return Evaluation(complete=True, findings=findings)
