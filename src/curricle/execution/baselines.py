"""What the grader has to know of a task before any candidate: computed once, then kept.

Three things, each from runs that hold nothing of a candidate: which tests reach which function,
that the bug shows under the grader's own command (the known-bad check), and what the original
function answers to drawn inputs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curricle.checkpoints.hashing import hash_value
from curricle.errors import InfrastructureFault
from curricle.execution.evaluate import evaluate
from curricle.execution.layers import Layer, Rejection, check_run
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import Canaries, LanguageBackend
from curricle.languages.commands import Command, Isolation, Level, Limit, Output
from curricle.languages.project import Prepared
from curricle.languages.tasks import BugTask

DRAWS = 4
"""So many sets of inputs are drawn for a task; a candidate meets one of them, chosen by seed."""
GRADER_VERSION = 1
"""Part of every key; raised whenever a grade could come out otherwise."""


@dataclass
class Baselines:
    """A store of them, in memory and, with a folder, on disk for other processes and later runs.

    Attributes:
        folder: Where to keep them; `None` keeps them in memory alone.
    """

    folder: Path | None = None
    _known: dict[str, Any] = field(default_factory=dict)

    def get(self, key: list[Any], compute: Callable[[], Any]) -> Any:
        """The JSON-able value of a key, computed unless it is known."""
        name = hash_value([GRADER_VERSION, *key])
        if name not in self._known:
            path = None if self.folder is None else self.folder / f"{name}.json"
            if path is not None and path.is_file():
                self._known[name] = json.loads(path.read_text())
            else:
                self._known[name] = compute()
                if path is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    partial = path.with_suffix(f".{os.getpid()}.partial")
                    partial.write_text(json.dumps(self._known[name]))
                    partial.replace(path)
        return self._known[name]


def trace_outputs(
    backend: LanguageBackend,
    prepared: Prepared,
    sandbox: Sandbox,
    limits: Limits,
    baselines: Baselines,
) -> list[Output]:
    """Outputs of the backend's traced baseline run; empty when it has none."""

    def compute() -> list[Any]:
        return [
            output_to_json(_run(backend, command, prepared, sandbox, limits))
            for command in backend.trace(prepared)
        ]

    return [output_from_json(o) for o in baselines.get(["trace", prepared.digest], compute)]


def reaching_tests(
    backend: LanguageBackend,
    prepared: Prepared,
    sandbox: Sandbox,
    limits: Limits,
    baselines: Baselines,
) -> Mapping[str, Sequence[str]]:
    """For each function the tests that reach it: see `LanguageBackend.tests_reaching`."""

    def compute() -> dict[str, list[str]]:
        outputs = trace_outputs(backend, prepared, sandbox, limits, baselines)
        reaching = backend.tests_reaching(prepared, outputs)
        return {function: list(tests) for function, tests in reaching.items()}

    reaching: Mapping[str, Sequence[str]] = baselines.get(["reaching", prepared.digest], compute)
    return reaching


def known_bad(
    task: BugTask,
    backend: LanguageBackend,
    prepared: Prepared,
    sandbox: Sandbox,
    limits: Limits,
    baselines: Baselines,
) -> str:
    """Why the unpatched bug does not show as it should; empty when it does.

    The same command as for a candidate, with canaries: the visible and the held-out failing tests
    must fail, and the canaries must behave. If they do not, the environment or the project is at
    fault, and no candidate can be judged.
    """

    def compute() -> str:
        canaries = backend.canaries(prepared.project, _seed_of(task))
        failing = (*task.failing, *task.heldout)
        evaluation = evaluate(
            backend,
            prepared,
            {**task.broken(prepared.project), **canaries.changes},
            Level.TEST,
            sandbox,
            limits,
            spread(canaries, failing),
        )
        return _why_not_bad(
            check_run(evaluation, canaries.expected, (), ()),
            sorted(evaluation.passed & set(failing)),
        )

    key = ["known_bad", prepared.digest, task.id, *task.failing, *task.heldout]
    reason: str = baselines.get(key, compute)
    return reason


def _why_not_bad(rejections: Sequence[Rejection], passed: Sequence[str]) -> str:
    # A bug may well end the run or hang: that is one way to fail.
    for rejection in rejections:
        if rejection.layer is Layer.CANARIES and "did not run" not in rejection.reason:
            return f"on the unpatched bug, {rejection.reason}"
    if passed:
        return f"the unpatched bug passes {passed[0]}"
    return ""


def drawn_output(
    task: BugTask,
    seed: int,
    backend: LanguageBackend,
    prepared: Prepared,
    sandbox: Sandbox,
    limits: Limits,
    baselines: Baselines,
) -> Output | None:
    """The original's answers to drawn inputs; `None` when the language or the function has none.

    Raises:
        InfrastructureFault: The original could not be asked; then no candidate is compared either.
    """
    comparison = backend.comparison
    if comparison is None:
        return None
    draw = seed % DRAWS

    def compute() -> Any:
        trace = trace_outputs(backend, prepared, sandbox, limits, baselines)
        command = comparison.draw(prepared, task, trace, draw)
        if command is None:
            return None
        output = _run(backend, command, prepared, sandbox, limits)
        if output.exit_code != 0 or output.limits_hit:
            raise InfrastructureFault(
                f"{prepared.project.name}: the original {task.mutant.function} could not be asked "
                f"for its answers (exit status {output.exit_code}): {output.stderr[-500:]}"
            )
        return output_to_json(output)

    function = [task.mutant.file, task.mutant.function]
    found = baselines.get(["drawn", prepared.digest, function, draw], compute)
    return None if found is None else output_from_json(found)


def spread(canaries: Canaries, tests: Sequence[str]) -> list[str]:
    """Test ids in the order to run: canaries first and last, so that what is bent late shows."""
    ids = list(canaries.expected)
    return [*ids[: len(ids) // 2], *tests, *ids[len(ids) // 2 :]]


def output_to_json(output: Output) -> dict[str, Any]:
    """A JSON-able form that `output_from_json` reads back."""
    return {**asdict(output), "limits_hit": sorted(output.limits_hit)}


def output_from_json(content: Mapping[str, Any]) -> Output:
    """Rebuild an output from its JSON form."""
    limits_hit = frozenset(Limit(name) for name in content["limits_hit"])
    isolation = Isolation(**content["isolation"])
    return Output(**{**content, "limits_hit": limits_hit, "isolation": isolation})


def _run(
    backend: LanguageBackend,
    command: Command,
    prepared: Prepared,
    sandbox: Sandbox,
    limits: Limits,
) -> Output:
    return sandbox.run(command, prepared, {}, limits, binds=backend.binds(), warm=backend.warm)


def _seed_of(task: BugTask) -> int:
    return int(task.id, 16)
