"""Proves mutants by execution: the original passes, the mutant fails, twice alike.

A study comes first: which tests of the unmodified project pass whenever they are run, how long they
take, and which functions they reach. Then each mutant is run twice, by the two methods of a backend
that has them (`curricle.languages.trials`), otherwise by two runs of its ordinary commands. Where
the two disagree, or the original does not pass the very tests, there is no task.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curricle.checkpoints.hashing import hash_value
from curricle.config.tasks import TaskBudget
from curricle.errors import InfrastructureFault
from curricle.execution.evaluate import evaluate
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.execution.study import Study
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Level, Limit
from curricle.languages.evaluation import Evaluation
from curricle.languages.project import Prepared
from curricle.languages.tasks import BugTask, ProjectMutant
from curricle.languages.trials import Trial, TrialResult

REVISION = 2
"""Rises with every change of this module that alters results."""

_SLACK_S = 1.5
_SLOWER = 5.0
_MESSAGE_CHARACTERS = 300
_FAILURES_SHOWN = 2
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: a task, or the reason why it is none."""

    mutant: ProjectMutant
    task: BugTask | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        task = None if self.task is None else self.task.to_json()
        return {"mutant": asdict(self.mutant), "task": task, "reason": self.reason}


def verify(
    backend: LanguageBackend,
    prepared: Prepared,
    study: Study,
    mutants: Sequence[ProjectMutant],
    sandbox: Sandbox,
    limits: Limits,
    budget: TaskBudget,
    split: str,
) -> list[Verdict]:
    """Run mutants of one project, and make tasks of those that are proven.

    Raises:
        InfrastructureFault: The sandbox failed; nothing is known of the mutants.
    """
    chosen = {m.id: choose_tests(study, m, budget) for m in mutants}
    originals = {key: Trial(f"original {key}", None, *_bounded(study, tests))
                 for key, tests in sorted(_together(mutants, chosen).items())}  # fmt: skip
    trials = [Trial(m.id, m, *_bounded(study, chosen[m.id])) for m in mutants]
    results = _run(backend, prepared, [*originals.values(), *trials], sandbox, limits)
    verdicts = []
    for mutant in mutants:
        original = results.get(originals[_key(mutant)].id)
        judged = judge(mutant, chosen[mutant.id], original, results.get(mutant.id))
        task = None
        if isinstance(judged, Proof):
            task = make_task(judged, prepared, budget, split)
        verdicts.append(Verdict(mutant, task, "" if task else str(judged)))
    return verdicts


def choose_tests(study: Study, mutant: ProjectMutant, budget: TaskBudget) -> tuple[str, ...]:
    """The tests of a mutant: all that reach it, or an even sample over the test functions.

    Siblings in one function get the same sample, so that one run of the original serves them all.
    """
    tests = study.tests_of(mutant)
    if len(tests) <= budget.max_tests:
        return tests
    draw = random.Random(f"{budget.seed}:{mutant.project}:{_key(mutant)}")
    groups: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        groups[test.split("[", 1)[0]].append(test)
    for members in groups.values():
        draw.shuffle(members)
    names = list(groups)
    draw.shuffle(names)
    sample: list[str] = []
    while len(sample) < budget.max_tests:
        for name in names:
            if groups[name] and len(sample) < budget.max_tests:
                sample.append(groups[name].pop())
    return tuple(sorted(sample))


@dataclass(frozen=True)
class Proof:
    """A mutant that fails, by the tests that said so twice."""

    mutant: ProjectMutant
    failing: tuple[str, ...]
    passing: tuple[str, ...]
    second: Evaluation


def judge(
    mutant: ProjectMutant,
    tests: Sequence[str],
    original: TrialResult | None,
    result: TrialResult | None,
) -> Proof | str:
    """A proof, or the reason why a mutant is no bug task."""
    if not tests or result is None or original is None:
        return "could not be run" if tests else "no test reaches it"
    sound = set(tests)
    for run in (original.first, original.second):
        sound &= run.passed if run is not None else set()
    failing = result.first.failed & sound
    reason = _objection(result.first) or _disagreement(result, failing, sound)
    if reason or result.second is None:
        return reason
    passing = (result.first.passed & sound) - failing
    proven = failing & set(result.second.tests)
    return Proof(mutant, tuple(sorted(proven)), tuple(sorted(passing)), result.second)


def _objection(first: Evaluation) -> str:
    """Why a first run says nothing; empty when it does."""
    if Limit.WALL in first.limits_hit:
        return "too slow"
    if first.compiled is False:
        return "does not compile"
    return "" if first.complete else "ends the test run"


def _disagreement(result: TrialResult, failing: frozenset[str] | set[str], sound: set[str]) -> str:
    """Why a mutant is not proven to fail; empty when both runs agree that it does."""
    if not failing:
        return "fails only where the original does" if result.first.failed else "survived"
    second = result.second
    if second is None or second.limits_hit or not second.complete:
        return "not the same twice"
    again = set(second.tests) & sound
    alike = failing & again and second.failed & sound == failing & again
    return "" if alike else "not the same twice"


def make_task(proof: Proof, prepared: Prepared, budget: TaskBudget, split: str) -> BugTask:
    """Set some failing tests aside, and say what the others print."""
    draw = random.Random(f"{budget.seed}:{proof.mutant.id}")
    order = list(proof.failing)
    draw.shuffle(order)
    hidden = min(math.ceil(budget.heldout_share * len(order)), len(order) - 1)
    heldout, visible = sorted(order[:hidden]), sorted(order[hidden:])
    return BugTask(
        mutant=proof.mutant,
        project_digest=prepared.project.digest,
        failing=tuple(visible),
        heldout=tuple(heldout),
        passing=proof.passing,
        failure=failure_text(proof.second, visible),
        split=split,
    )


def failure_text(evaluation: Evaluation, tests: Sequence[str]) -> str:
    """What some failing tests print: the assertion first, addresses left out, cut short."""
    parts = []
    for test in tests[:_FAILURES_SHOWN]:
        message = evaluation.tests[test].message.split("\n\n", 1)[0]
        parts.append(f"{test}\n{_ADDRESS.sub('0x', message)[:_MESSAGE_CHARACTERS]}")
    more = len(tests) - _FAILURES_SHOWN
    if more > 0:
        parts.append(f"and {more} more")
    return "\n".join(parts)


def batch_key(
    prepared: str,
    study: Study,
    mutants: Iterable[ProjectMutant],
    budget: TaskBudget,
    split: str,
) -> str:
    """Names a verification by all that decides its result; `prepared` is the project's digest."""
    return hash_value([
        "verify", REVISION, prepared, hash_value(study.to_json()),
        [mutant.id for mutant in mutants], split,
        budget.max_tests, budget.heldout_share, budget.seed,
    ])  # fmt: skip


def _run(
    backend: LanguageBackend,
    prepared: Prepared,
    trials: Sequence[Trial],
    sandbox: Sandbox,
    limits: Limits,
) -> dict[str, TrialResult]:
    results: dict[str, TrialResult] = {}
    waiting = list(trials)
    while waiting:
        command = backend.trials(prepared, waiting)
        if command is None:
            return {t.id: _twice(backend, prepared, t, sandbox, limits) for t in waiting}
        bounded = limits.model_copy(update={"wall_s": command.timeout_s or limits.wall_s})
        output = sandbox.run(command, prepared, {}, bounded, binds=backend.binds())
        found = backend.read_trials(waiting, output)
        results.update(found)
        left = [trial for trial in waiting if trial.id not in found]
        if len(left) == len(waiting):
            if len(waiting) == len(trials):
                raise InfrastructureFault(
                    f"{prepared.project.name}: no mutant could be run: {output.stderr[-500:]}"
                )
            left = left[1:]  # this one ends whatever runs it
        waiting = left
    return results


def _twice(
    backend: LanguageBackend, prepared: Prepared, trial: Trial, sandbox: Sandbox, limits: Limits
) -> TrialResult:
    changes = {} if trial.mutant is None else trial.mutant.changes(prepared.project)
    bounded = limits.model_copy(update={"wall_s": max(trial.limit_s, 10.0)})
    first, second = (
        evaluate(backend, prepared, changes, Level.TEST, sandbox, bounded, trial.tests)
        for _ in range(2)
    )
    return TrialResult(first, second)


def _together(
    mutants: Iterable[ProjectMutant], chosen: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    return {_key(mutant): chosen[mutant.id] for mutant in mutants}


def _key(mutant: ProjectMutant) -> str:
    return f"{mutant.file}::{mutant.function}"


def _bounded(study: Study, tests: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    return tests, _SLACK_S + _SLOWER * sum(study.durations[test] for test in tests)
