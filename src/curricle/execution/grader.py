"""Grades a patch: once, for every language.

In-process code can in principle forge anything in its process, so no layer is trusted alone: what
is forged in the test process still has to survive the scan, canaries whose names are drawn per run,
tests that nobody was shown, and a comparison with the original whose answers are kept outside.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from curricle.execution.baselines import (
    Baselines,
    drawn_output,
    known_bad,
    reaching_tests,
    spread,
)
from curricle.execution.layers import (
    Layer,
    Rejection,
    allowed_files,
    candidate_changes,
    check_policy,
    check_run,
    check_text,
)
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import Canaries, LanguageBackend
from curricle.languages.commands import Command, Level, Output
from curricle.languages.evaluation import Evaluation
from curricle.languages.project import Changes, Prepared, Project
from curricle.languages.tasks import BugTask, Patch

REPEAT_SHARE = 0.05
"""Of the patches that are about to be rewarded, so many are run again, with every test."""


@dataclass(frozen=True)
class Grade:
    """What a patch is worth, and why.

    Attributes:
        task: The task's id.
        patch: The patch's id.
        reward: 1.0 when no layer objects, 0.0 when one does, `None` when nothing could be learned
            of the candidate: mask it, never count it as 0.
        rejections: What the layers object to, in the order in which they were asked. Grading stops
            at the first layer that objects, unless it was asked to be thorough.
        evaluation: The run of the tests; `None` when no run was needed or possible.
        fault: Why it is masked; empty when it is not.
        duration_s: Wall-clock seconds.
    """

    task: str
    patch: str
    reward: float | None
    rejections: tuple[Rejection, ...] = ()
    evaluation: Evaluation | None = None
    fault: str = ""
    duration_s: float = 0.0

    @property
    def layer(self) -> Layer | None:
        """The first layer that objects."""
        return self.rejections[0].layer if self.rejections else None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer that objects, once, in order."""
        return tuple(dict.fromkeys(rejection.layer for rejection in self.rejections))

    @property
    def reason(self) -> str:
        """Why it is not rewarded, in one line; empty when it is."""
        if self.fault:
            return f"masked: {self.fault}"
        return f"{self.layer}: {self.rejections[0].reason}" if self.rejections else ""


def grade(
    task: BugTask,
    patch: Patch,
    prepared: Prepared,
    backend: LanguageBackend,
    sandbox: Sandbox,
    limits: Limits,
    seed: int = 0,
    *,
    baselines: Baselines | None = None,
    thorough: bool = False,
    repeat_share: float = REPEAT_SHARE,
) -> Grade:
    """Run a patch through every layer.

    Which tests run: a patch that changes function bodies alone, against the original, is judged by
    the tests that reach one of those functions on the original, and by every failing test of the
    task. A test that never enters a changed function executes the same code as on the original up
    to its end, so it passes as it did there. That holds for tests that are deterministic and share
    no state; functions that run while files are loaded or in a fixture shared by several tests
    count as reached by all of those, any change beside function bodies runs everything, and the
    repeated sample runs everything always, which bounds what shared state could hide.

    Args:
        task: The bug.
        patch: What the candidate wants changed against the broken tree.
        prepared: The task's project, whose digest the task was proven on.
        backend: Its language.
        sandbox: Where everything runs.
        limits: Bounds of each run.
        seed: Draws names and values of canaries and chooses the inputs of the comparison; another
            one for every grade, unpredictable for candidates, recorded by the caller.
        baselines: Keeps what is known of tasks; shared by all grades of a process. `None` computes
            it for this grade alone.
        thorough: Ask every layer even after one has objected, dropping what is not allowed.
        repeat_share: The share of patches about to be rewarded that run a second time.

    Raises:
        InfrastructureFault: A run failed for a reason that is not the candidate's; try again, then
            mask (`compute_execution_reward` does).
    """
    started = time.monotonic()
    grading = _Grading(
        task, patch, prepared, backend, sandbox, limits, seed, baselines or Baselines(), thorough
    )
    layers = [grading.policy, grading.text, grading.known_bad, grading.tests]
    if random.Random(f"repeat:{seed}:{patch.id}").random() < repeat_share:
        layers.append(grading.repeat)
    rejections: list[Rejection] = []
    evaluation: Evaluation | None = None
    fault = ""
    for layer in layers:
        verdict = layer()
        rejections += verdict.rejections
        evaluation = evaluation or verdict.evaluation
        fault = verdict.fault
        if fault or (rejections and not thorough):
            break
    return Grade(
        task.id,
        patch.id,
        # What a layer rejected before the fault stays rejected.
        None if fault and not rejections else float(not rejections),
        tuple(rejections),
        evaluation,
        "" if rejections else fault,
        time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Verdict:
    rejections: Sequence[Rejection] = ()
    evaluation: Evaluation | None = None
    fault: str = ""


@dataclass(frozen=True)
class _Grading:
    """One patch on its way through the layers."""

    task: BugTask
    patch: Patch
    prepared: Prepared
    backend: LanguageBackend
    sandbox: Sandbox
    limits: Limits
    seed: int
    baselines: Baselines
    thorough: bool

    @property
    def project(self) -> Project:
        return self.prepared.project

    @cached_property
    def allowed(self) -> frozenset[str]:
        # Patterns over a whole tree take longer than all else that happens outside the sandbox.
        key = ["allowed", self.prepared.digest]
        files = self.baselines.get(key, lambda: sorted(allowed_files(self.backend, self.project)))
        return frozenset(files)

    @cached_property
    def changes(self) -> Mapping[str, str | None]:
        broken = self.task.broken(self.project)
        return candidate_changes(self.backend, self.project, broken, self.patch, self.allowed)

    def policy(self) -> _Verdict:
        return _Verdict(check_policy(self.patch, self.allowed))

    def text(self) -> _Verdict:
        return _Verdict(check_text(self.backend, self.project, self.changes))

    def known_bad(self) -> _Verdict:
        return _Verdict(fault=known_bad(self.task, *self._where()))

    def tests(self) -> _Verdict:
        drawn = drawn_output(self.task, self.seed, *self._where())
        return self._run(self.seed, self._selected(), drawn)

    def repeat(self) -> _Verdict:
        verdict = self._run(self.seed + 1, self.task.passing, None)
        return _Verdict(
            [Rejection(Layer.REPEAT, f"the second time, {r.reason}") for r in verdict.rejections]
        )

    def _run(self, seed: int, passing: Sequence[str], drawn: Output | None) -> _Verdict:
        """The tests with canaries among them, and the comparison when there are drawn inputs."""
        canaries = self.backend.canaries(self.project, seed)
        changes: dict[str, str | None] = {**self.changes, **canaries.changes}
        tests = [*self.task.failing, *self.task.heldout, *passing]
        comparing = self._comparing(seed)
        if comparing is not None:
            changes |= comparing.changes
            tests += comparing.expected
        commands = self.backend.commands(self.prepared, Level.TEST, spread(canaries, tests))
        comparison = self.backend.comparison if drawn is not None else None
        replay = joined = None
        if comparison is not None and drawn is not None:
            replay = comparison.replay(self.prepared, self.task, drawn)
            joined = comparison.join(commands[-1], replay)
            commands = [*commands[:-1], joined or commands[-1]]
        outputs = [self._execute(command, changes) for command in commands]
        evaluation = self.backend.parse(self.prepared, Level.TEST, outputs)
        rejections = check_run(
            evaluation,
            canaries.expected,
            {*self.task.failing, *passing},
            self.task.heldout,
            {} if comparing is None else comparing.expected,
        )
        if comparison is not None and drawn is not None and replay is not None:
            if joined is None and rejections and not self.thorough:
                return _Verdict(rejections, evaluation)
            replayed = outputs[-1] if joined else self._execute(replay, self.changes)
            differences = comparison.differences(drawn, replayed)
            rejections += [Rejection(Layer.COMPARISON, reason) for reason in differences[:1]]
        return _Verdict(rejections, evaluation)

    def _execute(self, command: Command, changes: Changes) -> Output:
        return self.sandbox.run(
            command,
            self.prepared,
            changes,
            self.limits,
            binds=self.backend.binds(),
            warm=self.backend.warm,
        )

    def _comparing(self, seed: int) -> Canaries | None:
        """Tests of the backend's own that compare with the original in the test process."""
        text = self.changes[self.task.mutant.file]
        assert text is not None, "a mutant changes its file and deletes none"
        return self.backend.differential(self.prepared, self.task, text, seed)

    def _selected(self) -> Sequence[str]:
        """The passing tests that can tell the candidate from the original: see `grade`."""
        reaching = reaching_tests(*self._where())
        if not reaching:
            return self.task.passing
        reached: set[str] = set()
        for file, text in self.changes.items():
            assert text is not None, "patches delete nothing"
            functions = self.backend.changed_functions(self.project.read(file), text)
            if functions is None:
                return self.task.passing
            for function in functions:
                reached.update(reaching.get(f"{file}::{function}", ()))
        return [test for test in self.task.passing if test in reached]

    def _where(self) -> tuple[LanguageBackend, Prepared, Sandbox, Limits, Baselines]:
        return self.backend, self.prepared, self.sandbox, self.limits, self.baselines
