"""One conversation between an agent and a workspace: calls go in, what the tools print comes out.

A session is what a rollout drives (`start`, then `step` until done) and what the scripted experts
are recorded in, so that training and evaluation see the same tools. Whatever a model writes gives
an observation; nothing that it writes can raise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from curricle.agents.editing import Scope, replace_once
from curricle.agents.messages import ToolCall, ToolDefinition, read_message
from curricle.agents.observations import (
    clip,
    plain,
    show_findings,
    show_hits,
    show_source,
    show_tests,
    suspicious,
)
from curricle.agents.outline import Definition, Grammar, definitions, silent_lines
from curricle.agents.patching import apply_diff
from curricle.agents.records import (
    Call,
    Ending,
    Message,
    Run,
    SessionRecord,
    VisibleTests,
)
from curricle.agents.refusal import Refused
from curricle.agents.searching import search
from curricle.agents.tools import checked_call, offered_tools
from curricle.agents.workspace import Workspace
from curricle.config.agents import SessionParameters
from curricle.errors import DataError, InfrastructureFault
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Level
from curricle.languages.evaluation import Evaluation
from curricle.languages.project import Changes

_Shown: TypeAlias = tuple[str, str]
"""What a tool prints, and the outcome that is counted."""


@dataclass(frozen=True)
class _Said:
    """An assistant's turn: what is recorded of it, its call, or why that cannot be read."""

    row: Message
    call: ToolCall | None
    malformed: str
    further: bool


@dataclass(frozen=True)
class _Place:
    """What an edit without a path goes to: what was read last."""

    file: str
    definition: Definition | None


class ToolSession:
    """An environment for one agent: `start()`, then `step(message)` until it says done."""

    def __init__(
        self,
        workspace: Workspace,
        backend: LanguageBackend,
        run: Run | None,
        opening: Sequence[Message],
        tests: VisibleTests | None = None,
        parameters: SessionParameters | None = None,
    ) -> None:
        """Begin in a workspace.

        Args:
            workspace: Where the agent's work begins.
            backend: The project's language.
            run: Executes tests and checks; `None` where there is nothing to run.
            opening: The system's and the user's messages.
            tests: What `run_tests` runs.
            parameters: What is shown and what is bounded.
        """
        self.workspace = workspace
        self.parameters = parameters or SessionParameters()
        self.tools: tuple[ToolDefinition, ...] = offered_tools(backend.tools, self.parameters.tools)
        self.tests = tests or VisibleTests()
        self.last_evaluation: Evaluation | None = None
        self._own = {spec.name: spec.level for spec in backend.tools}
        self._grammar: Grammar = backend.operators.grammar
        self._run = run
        self._messages: list[Message] = [dict(message) for message in opening]
        self._opened = len(self._messages)
        self._calls: list[Call] = []
        self._turns = 0
        self._place: _Place | None = None
        self._before: list[Workspace] = []  # each edit, the last one at the end
        self._failed: list[Changes] = []  # what was taken back because tests failed
        self._changed = True
        self._ending: Ending | None = None
        self._answer = self._note = ""

    @property
    def messages(self) -> list[Message]:
        """The whole conversation so far."""
        return [dict(message) for message in self._messages]

    @property
    def record(self) -> SessionRecord:
        """What happened so far."""
        return SessionRecord(
            self._ending, self._turns, tuple(self._calls), self.workspace.patch, self._answer,
            self._note, self._failed[-1] if self._failed else {},
        )  # fmt: skip

    @property
    def is_spent(self) -> bool:
        """Whether the last step changed nothing, so that the same one would give the same again."""
        return not self._changed

    @property
    def place(self) -> tuple[str, str]:
        """The file and the function that were read last; empty for none."""
        last = self._place
        named = last.definition if last is not None else None
        return (last.file if last is not None else "", named.name if named is not None else "")

    def start(self) -> list[Message]:
        """The messages that the agent sees first."""
        return [dict(message) for message in self._messages[: self._opened]]

    def step(self, message: Mapping[str, Any]) -> tuple[Message | None, bool]:
        """Take an assistant's message and answer it.

        A message without a tool call concludes. Of several calls the first one is carried out. A
        renderer that could not read a call says why under `malformed`.

        Returns:
            The observation, `None` after a conclusion; and whether the session is over.
        """
        assert self._ending is None, "the session is over"
        self._turns += 1
        before = dict(self.workspace.changes)
        read = _read(message)
        self._messages.append(read.row)
        if read.call is None and not read.malformed:
            self._ending, self._answer = Ending.CONCLUDED, str(read.row["content"])
            return None, True
        started = time.monotonic()
        try:
            if read.call is None:
                raise Refused(f"the call could not be read: {read.malformed}", "malformed_call")
            text, outcome = self._carry_out(read.call)
            if read.further:
                text += "\nonly the first call was carried out: make one at a time"
        except Refused as refused:
            text, outcome = f"error: {refused}", refused.kind
        except InfrastructureFault as fault:
            text, outcome = "error: the machine failed, not you", "infrastructure"
            self._ending, self._note = Ending.INFRASTRUCTURE, str(fault)
        seconds = time.monotonic() - started
        call = read.call
        name, arguments = (call.name, call.arguments) if call is not None else ("", {})
        self._calls.append(Call(self._turns - 1, name, arguments, outcome, seconds))
        shown = clip(plain(text), self.parameters.observation_chars)
        # What could not be read is no call: then it is the user who answers.
        observation: Message = {"role": "tool", "name": name, "content": shown}
        if call is None:
            observation = {"role": "user", "content": shown}
        self._messages.append(observation)
        self._changed = dict(self.workspace.changes) != before
        self._ending = self._ending or self._exhausted()
        return dict(observation), self._ending is not None

    def _exhausted(self) -> Ending | None:
        last = self._calls[-self.parameters.max_invalid :]
        if len(last) == self.parameters.max_invalid and not any(call.is_valid for call in last):
            return Ending.INVALID
        same = self._calls[-self.parameters.max_repeats :]
        if len(same) == self.parameters.max_repeats and len({_told(call) for call in same}) == 1:
            return Ending.REPEATS
        return Ending.TURNS if self._turns >= self.parameters.max_turns else None

    def _carry_out(self, call: ToolCall) -> _Shown:
        """What a call prints, and its outcome."""
        tool, given = checked_call(self.tools, call)
        self.workspace.require_project()
        if tool.name in self._own:
            return self._check(self._own[tool.name])
        carry_out: dict[str, Callable[..., _Shown]] = {
            "run_tests": self._run_tests,
            "read_file": self._read_file,
            "search": self._search,
            "edit": self._edit,
            "undo": self._undo,
            "apply_patch": self._apply_patch,
        }
        return carry_out[tool.name](**given)

    def _run_tests(self, described: int | None = None) -> _Shown:
        """Run the visible tests.

        Args:
            described: Failures that are described; `None` for as many as the parameters say.
        """
        shown = self.parameters
        described = shown.failures_shown if described is None else described
        failing = self.tests.failing[: shown.failing_run]
        wanted = (*failing, *self.tests.passing[: shown.regression_tests])
        if not wanted or self._run is None:
            raise Refused("there are no tests to run.", "no_tests")
        evaluation = self._run(self.workspace.changes, Level.TEST, wanted)
        self.last_evaluation = evaluation
        suspects = suspicious(evaluation, self.tests.reaching, shown.suspects_shown)
        text = show_tests(
            evaluation, failing, self.workspace, self._grammar, shown=described,
            message_lines=shown.failure_lines, suspects=suspects,
        )  # fmt: skip
        passed = evaluation.complete and set(wanted) <= evaluation.passed
        return text, "ok" if passed else "failed"

    def _check(self, level: Level) -> _Shown:
        if level is Level.TEST:
            return self._run_tests()
        if self._run is None:
            raise Refused("there is nothing to run here.", "no_tests")
        evaluation = self._run(self.workspace.changes, level)
        clean = evaluation.complete and not evaluation.findings
        return show_findings(evaluation), "ok" if clean else "failed"

    def _read_file(self, path: str, name: str | None = None, from_line: int = 1) -> _Shown:
        file = self.workspace.resolve(path)
        text = self.workspace.read(file)
        first, last, definition = from_line, text.count("\n") + 1, None
        if name is not None:
            definition = _definition(text, name, self._grammar)
            first, last = max(first, definition.first_line), definition.last_line
        if not 1 <= first <= last:
            raise Refused(f"from_line must be between 1 and {last}.", "bad_arguments")
        self._place = _Place(file, definition)
        shown = show_source(
            text, first, last, self._grammar if self.parameters.show == "code" else None,
            max_lines=self.parameters.read_lines, numbered=self.parameters.numbered,
        )  # fmt: skip
        return shown, "ok"

    def _search(self, pattern: str, regex: bool = False) -> _Shown:
        files = ((file, self.workspace.read(file)) for file in self.workspace.sources())
        hits = search(
            files, pattern, is_regex=regex, max_hits=self.parameters.search_hits,
            timeout_s=self.parameters.search_timeout_s,
        )  # fmt: skip
        return show_hits(hits), "ok" if hits.found else "nothing"

    def _edit(self, old: str, new: str, path: str | None = None, why: str = "") -> _Shown:
        file, definition = self._target(path)
        text = self.workspace.read(file)
        first, last = 1, text.count("\n") + 1
        # Earlier edits may have moved the function, or broken it so that it is none any more.
        named = definition.name if definition is not None else ""
        for standing in definitions(text, self._grammar):
            if standing.name == named:
                first, last = standing.first_line, standing.last_line
        silent: frozenset[int] = frozenset()
        if self.parameters.show == "code":
            silent = silent_lines(text, self._grammar, first, last)
        replaced = replace_once(text, old, new, Scope(first, last, silent))
        return self._change({file: replaced.text}, f"edited {file}:{replaced.line}")

    def _undo(self) -> _Shown:
        if not self._before:
            raise Refused("there is no edit to take back.", "nothing")
        self.workspace = self._before.pop()
        return "the last edit is taken back", "ok"

    def _target(self, path: str | None) -> tuple[str, Definition | None]:
        """The file to edit, and the function in it if one was read last."""
        if path is None:
            if self._place is None:
                raise Refused("edit: name a path, or read the place first.", "no_place")
            return self._place.file, self._place.definition
        file = self.workspace.resolve(path)
        last = self._place
        return file, last.definition if last is not None and last.file == file else None

    def _apply_patch(self, patch: str) -> _Shown:
        def read(path: str) -> str:
            return self.workspace.read(self.workspace.resolve(path))

        changed = apply_diff(patch, read)
        texts = {self.workspace.resolve(path): text for path, text in changed.items()}
        return self._change(texts, f"patched {', '.join(sorted(changed))}")

    def _change(self, texts: Mapping[str, str], done: str) -> _Shown:
        before, changed = self.workspace, self.workspace
        for file, text in texts.items():
            changed = changed.write(file, text)
        if dict(changed.changes) in self._failed:
            raise Refused("this was tried, and tests failed: change something else.", "tried")
        self.workspace = changed
        self._before.append(before)
        anything = self._run is not None and (self.tests.failing or self.tests.passing)
        if not (self.parameters.test_after_edit and anything):
            return done, "ok"
        text, outcome = self._run_tests(self.parameters.failures_after_edit)
        if outcome == "failed" and self.parameters.take_back_failed:
            self._failed.append(dict(changed.changes))
            self.workspace = self._before.pop()
            text += "\nthe edit is taken back"
        return f"{done}\n{text}", outcome


def _told(call: Call) -> str:
    """A call and what it gave: one that is made again as it was will give the same again."""
    return f"{call.tool} {dict(call.arguments)} {call.outcome}"


def _read(message: Mapping[str, Any]) -> _Said:
    """An assistant's message as far as it can be read.

    What is recorded of it is a message that every renderer can write: its first call alone, and of
    a call that could not be read only the text.
    """
    content = str(message.get("content") or "")
    malformed = str(message.get("malformed") or "")
    calls = message.get("tool_calls")
    kept = {"role": "assistant", **{k: message[k] for k in ("thinking", "train") if k in message}}
    if not malformed and calls:
        first = calls[0] if isinstance(calls, (list, tuple)) else calls
        try:
            read = read_message({**kept, "content": content, "tool_calls": [first]}, "message")
            return _Said({"content": content, **read.to_row()}, read.tool_calls[0], "",
                         isinstance(calls, (list, tuple)) and len(calls) > 1)  # fmt: skip
        except DataError as error:
            malformed = str(error).removeprefix("message, ")
    return _Said({**kept, "content": content}, None, malformed, False)


def _definition(text: str, name: str, grammar: Grammar) -> Definition:
    """The definition of a name, qualified or not.

    Raises:
        Refused: There is none, or an unqualified name means several.
    """
    known = definitions(text, grammar)
    exact = [found for found in known if found.name == name]
    if exact:
        return exact[-1]  # of equal names, the last one counts
    ending = [found for found in known if found.name.endswith(f".{name}")]
    if len(ending) == 1:
        return ending[0]
    if ending:
        names = ", ".join(found.name for found in ending[:5])
        raise Refused(f"{name} is ambiguous: {names}.", "ambiguous_name")
    names = ", ".join(found.name for found in known if found.is_function)
    raise Refused(f"there is no {name} here. Functions: {clip(names, 300)}.", "no_name")
