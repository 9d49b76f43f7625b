"""Bug tasks as environments: a session with tools, and in the end the grader's word.

One environment for rollouts, GRPO and evaluation, so that a model is trained and measured on the
same thing, and a solution that the full grader rejects is worth nothing anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from curricle.agents.hosting import Opener, Score
from curricle.agents.judging import Judge
from curricle.agents.messages import ToolDefinition
from curricle.agents.prompts import bug_session, sandboxed_run
from curricle.agents.scoring import Attempt, Verdict, attempt_of
from curricle.agents.session import ToolSession
from curricle.config.agents import SessionParameters
from curricle.config.base import Parameters
from curricle.config.execution import SandboxParameters
from curricle.errors import DataError, InfrastructureFault
from curricle.execution.baselines import Baselines
from curricle.execution.evaluate import prepare_project
from curricle.execution.limits import Limits
from curricle.execution.opening import open_sandbox
from curricle.execution.projects import listed_project
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Level
from curricle.languages.project import Prepared
from curricle.languages.registry import get_backend
from curricle.languages.tasks import BugTask, Patch

FACTORY = "curricle.agents.bug_environment:bug_environments"
PROJECTS = "projects.json"


class BugSettings(Parameters):
    """What every bug environment of a job shares.

    Attributes:
        session: What tools show.
        run_wall_s: Seconds that a run of tests may take.
        levels: Levels beside the tests at which the patched tree is compared with the original.
        sandbox: Where tests run.
        seed: Of the canaries and of the comparison with the original.
    """

    session: SessionParameters = SessionParameters()
    run_wall_s: float = Field(default=20.0, gt=0)
    levels: tuple[Level, ...] = ()
    sandbox: SandboxParameters = SandboxParameters()
    seed: int = 0


@contextmanager
def bug_environments(settings: Mapping[str, Any], inputs: Mapping[str, Path]) -> Iterator[Opener]:
    """What opens the environment of a task, for as long as one worker lives.

    Args:
        settings: A `BugSettings`, JSON-able.
        inputs: Stored folders; `projects_<language>` holds the projects of the tasks.
    """
    shared = BugSettings.model_validate(settings)
    with open_sandbox(shared.sandbox) as sandbox:
        yield BugRoom(shared, dict(inputs), sandbox).open


@dataclass
class BugRoom:
    """What the environments of one worker share: the sandbox, prepared projects, judges."""

    settings: BugSettings
    inputs: Mapping[str, Path]
    sandbox: Sandbox
    _prepared: dict[str, Prepared] = field(default_factory=dict)
    _judges: dict[str, Judge] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """Bounds of one run."""
        return Limits(wall_s=self.settings.run_wall_s)

    def open(self, row: Mapping[str, Any]) -> BugEnvironment:
        """The environment of a task in its JSON form."""
        task = BugTask.from_json(row)
        backend = get_backend(task.mutant.language)
        return BugEnvironment(self, task, self.prepare(task, backend), backend)

    def prepare(self, task: BugTask, backend: LanguageBackend) -> Prepared:
        """A task's project, prepared once for all workers of a run.

        Raises:
            DataError: No project of that name was stored, or another one than the task's.
        """
        language, name = task.mutant.language, task.mutant.project
        key = f"{language}:{name}"
        if key not in self._prepared:
            stored = self.inputs.get(f"projects_{language}")
            rows = json.loads((stored / PROJECTS).read_text()) if stored else []
            row = next((row for row in rows if row["name"] == name), None)
            if row is None or stored is None:
                raise DataError(
                    f"task {task.id}: no project {name} is stored for {language}. Make it: "
                    f"`kedro run --pipelines tasks_{language}`."
                )
            project = listed_project(row, stored).project
            self._prepared[key] = prepare_project(
                backend, project, beside_store(stored) / "prepared" / language, self.sandbox,
                self.limits,
            )  # fmt: skip
        return self._prepared[key]

    def judge(self, language: str) -> Judge:
        """Who judges patches of a language; what it keeps lies beside the store."""
        if language not in self._judges:
            folder = beside_store(self.inputs[f"projects_{language}"]) / "prepared" / "baselines"
            self._judges[language] = Judge(
                self.sandbox, self.limits, Baselines(folder), self.settings.levels,
                self.settings.seed,
            )  # fmt: skip
        return self._judges[language]


class BugEnvironment:
    """One session on one task, and what it was worth."""

    def __init__(
        self, room: BugRoom, task: BugTask, prepared: Prepared, backend: LanguageBackend
    ) -> None:
        self._room, self._task, self._prepared, self._backend = room, task, prepared, backend
        run = sandboxed_run(backend, prepared, room.sandbox, room.limits)
        self.session: ToolSession = bug_session(task, prepared, backend, run, room.settings.session)

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions of the tools on offer."""
        return [_definition(tool) for tool in self.session.tools]

    def start(self) -> Sequence[Mapping[str, Any]]:
        """The messages that the model sees first."""
        return self.session.start()

    def step(self, message: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, bool]:
        """Take the model's message; give the observation and whether it is over."""
        observation, done = self.session.step(message)
        if observation is not None:
            observation["spent"] = self.session.is_spent
        return observation, done

    def score(self) -> Score:
        """Grade what was changed; `details` is an `Attempt` in its JSON form."""
        attempt = self.attempt()
        fixed = attempt.verdict.fixed
        return Score(
            reward=None if fixed is None else float(fixed),
            calls=attempt.calls,
            valid_calls=attempt.valid_calls,
            note=attempt.verdict.fault,
            details=attempt.to_json(),
        )

    def attempt(self) -> Attempt:
        """The session so far, graded."""
        record = self.session.record
        return attempt_of(
            self._task, self._prepared.project, record, self.judge(record.patch),
            messages=self.session.messages,
        )  # fmt: skip

    def judge(self, patch: Patch) -> Verdict:
        """What the grader says of a patch; an infrastructure fault says nothing."""
        if self.session.record.note:
            return Verdict(None, fault=self.session.record.note)
        judge = self._room.judge(self._task.mutant.language)
        try:
            return judge.verdict(self._task, patch, self._prepared, self._backend)
        except InfrastructureFault as error:
            return Verdict(None, fault=str(error))


def beside_store(stored: Path) -> Path:
    """The folder that holds the store of a stored result: `<folder>/store/<step>/<fingerprint>`."""
    return stored.resolve().parents[2]


def _definition(tool: ToolDefinition) -> dict[str, Any]:
    return tool.function_schema()
