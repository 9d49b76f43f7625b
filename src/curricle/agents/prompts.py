"""The first messages of a session, and the session of a bug task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

from curricle.agents.records import Message, Run, VisibleTests
from curricle.agents.session import ToolSession
from curricle.agents.workspace import Workspace
from curricle.config.agents import SessionParameters
from curricle.errors import DataError, InfrastructureFault
from curricle.execution.evaluate import evaluate
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Level
from curricle.languages.evaluation import Evaluation
from curricle.languages.project import Changes, Prepared
from curricle.languages.tasks import BugTask

_TITLES = {"typescript": "TypeScript"}


def sandboxed_run(
    backend: LanguageBackend, prepared: Prepared, sandbox: Sandbox, limits: Limits
) -> Run:
    """How a session executes: every run in a fresh view, each ended at the limits."""

    def run(changes: Changes, level: Level, tests: Sequence[str] | None = None) -> Evaluation:
        return evaluate(backend, prepared, changes, level, sandbox, limits, tests)

    return run


def opening(language: str, request: str) -> list[Message]:
    """The system's and the user's messages."""
    title = _TITLES.get(language, language.capitalize())
    return [
        {"role": "system", "content": f"You work on {title} code with tools, one call at a time."},
        {"role": "user", "content": request},
    ]


def bug_request(task: BugTask, parameters: SessionParameters) -> str:
    """What the user asks for, with as much of a hint as the parameters allow."""
    mutant = task.mutant
    where = ""
    # No full stop after a name: a small model copies it into the call.
    if parameters.hint == "function" and mutant.function:
        where = f" in {mutant.file}, {mutant.function}"
    elif parameters.hint != "none":
        where = f" in {mutant.file}"
    return f"A test of {mutant.project} fails. Find the bug{where} and fix it."


def bug_session(
    task: BugTask,
    prepared: Prepared,
    backend: LanguageBackend,
    run: Run,
    parameters: SessionParameters | None = None,
    reaching: Mapping[str, Sequence[str]] | None = None,
) -> ToolSession:
    """The session of a bug task: the bug is in the tree, its visible tests can be run.

    Args:
        task: The task; its held-out tests stay out of sight.
        prepared: Its project.
        backend: Its language.
        run: Executes tests and checks.
        parameters: What is shown and what is bounded.
        reaching: Function (`file::name`) to the tests that reach it on the pristine tree.

    Raises:
        InfrastructureFault: The project has vanished, or is not the one that the task was made of.
    """
    parameters = parameters or SessionParameters()
    Workspace(prepared).require_project()
    try:
        start = task.broken(prepared.project)
    except DataError as error:
        raise InfrastructureFault(f"task {task.id} has lost its project: {error}") from error
    hidden = frozenset(task.heldout)
    seen = {
        function: [test for test in tests if test not in hidden]
        for function, tests in (reaching or {}).items()
    }
    tests = VisibleTests(task.failing, _nearby(task), seen)
    request = bug_request(task, parameters)
    return ToolSession(
        Workspace(prepared, start),
        backend,
        run,
        opening(task.mutant.language, request),
        tests,
        parameters,
    )


def _nearby(task: BugTask) -> tuple[str, ...]:
    """The passing tests, those first whose ids share most with a failing one's."""
    near = task.failing[0] if task.failing else ""

    def shared(test: str) -> int:
        pairs = zip(test, near, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    return tuple(sorted(task.passing, key=lambda test: (-shared(test), test)))
