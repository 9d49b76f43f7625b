"""A scripted expert works on a bug task in a real session, and sometimes takes a wrong turn first.

The expert knows the bug, but all that it learns and does goes through the tools: every observation
is what a tool printed, and a trajectory is kept only if its tests pass in the end. Each detour is a
mistake that models were seen to make (a name misremembered, a line miscopied, too little quoted, a
wrong fix, the wrong line), with the recovery that follows from the observation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curricle.agents.editing import Scope
from curricle.agents.observations import assertion
from curricle.agents.outline import Definition, definitions, silent_lines
from curricle.agents.prompts import bug_session
from curricle.agents.quoting import (
    Quote,
    edit_arguments,
    miscopied,
    quote_change,
    too_short,
    what_undoes,
)
from curricle.agents.records import Message, Run
from curricle.agents.session import ToolSession
from curricle.agents.trajectories import CountTokens, Detour, Dropped, Trajectory
from curricle.config.agents import ExpertParameters, SessionParameters
from curricle.errors import InfrastructureFault
from curricle.languages.backend import LanguageBackend
from curricle.languages.mutation import Mutant, apply, proposals
from curricle.languages.project import Prepared
from curricle.languages.tasks import BugTask

_LINE_CHARS = 100


class Stuck(Exception):
    """An expert cannot go on; the message is the reason that is counted.

    Never leaves this package: whoever plays a script turns it into `Dropped`.
    """


@dataclass(frozen=True)
class Bug:
    """What the expert knows of a bug.

    Attributes:
        file: Where it is.
        function: The function's qualified name; empty at module level.
        broken: The file's text as the agent finds it.
        fixed: The text that it had.
        mutant: What was done to it.
    """

    file: str
    function: str
    broken: str
    fixed: str
    mutant: Mutant


class Recorder:
    """Speaks in a session as an assistant, and marks the turns that nobody should learn."""

    def __init__(self, session: ToolSession, train_mistakes: bool) -> None:
        self.session = session
        self._train_mistakes = train_mistakes

    def call(
        self, tool: str, thinking: str = "", mistake: bool = False, /, **arguments: object
    ) -> str:
        """Make a call and return what was printed.

        Raises:
            InfrastructureFault: The machine failed.
            Stuck: The session is over.
        """
        message: Message = {"role": "assistant", "content": ""}
        if thinking:
            message["thinking"] = thinking
        message["tool_calls"] = [{"name": tool, "arguments": dict(arguments)}]
        if mistake and not self._train_mistakes:
            message["train"] = False
        observation, done = self.session.step(message)
        record = self.session.record
        if record.note:
            raise InfrastructureFault(record.note)
        if done:
            raise Stuck("too many turns")
        return str((observation or {})["content"])

    def conclude(self, text: str) -> None:
        """End the session."""
        self.session.step({"role": "assistant", "content": text})

    @property
    def outcome(self) -> str:
        """The outcome of the last call."""
        return self.session.record.calls[-1].outcome


def demonstrate_fix(
    task: BugTask,
    prepared: Prepared,
    backend: LanguageBackend,
    run: Run,
    count_tokens: CountTokens,
    *,
    seed: int,
    session: SessionParameters | None = None,
    expert: ExpertParameters | None = None,
    reaching: Mapping[str, Sequence[str]] | None = None,
    after: Sequence[Mapping[str, Any]] | None = None,
) -> Trajectory | Dropped:
    """Fix a bug in a session, and record it. Depends on its arguments alone.

    A trajectory that is too long is made again without detours, then dropped.

    Args:
        task: The bug.
        prepared: Its project.
        backend: Its language.
        run: Executes its tests.
        count_tokens: Length of a conversation as rendered.
        seed: With the task's id decides which detours are taken.
        session: What tools show.
        expert: Shares of detours, thinking, and the most tokens.
        reaching: Function to the tests that reach it, for the session.
        after: Calls that somebody else made before the expert steps in; it takes no detours then.

    Raises:
        InfrastructureFault: The machine failed; nothing is known of the task.
    """
    session, expert = session or SessionParameters(), expert or ExpertParameters()
    draw = random.Random(f"{seed}:{task.id}")
    detours = _draw_detours(expert, session, draw) if after is None else ()
    for taken in dict.fromkeys((detours, ())):
        environment = bug_session(task, prepared, backend, run, session, reaching)
        recorder = Recorder(environment, expert.train_mistakes)
        script = _Script(task, recorder, backend, expert, taken, draw)
        try:
            if after is None:
                script.play()
            else:
                script.go_on(after)
        except Stuck as stuck:
            if not taken:
                return Dropped(task.id, task.mutant.mutant.operator, str(stuck))
            continue
        messages = environment.messages
        schemas = [tool.function_schema() for tool in environment.tools]
        tokens = count_tokens(messages, schemas)
        if tokens <= expert.max_tokens:
            return Trajectory(
                task=task.id,
                kind="repair",
                language=task.mutant.language,
                project=task.mutant.project,
                operator=task.mutant.mutant.operator,
                messages=tuple(messages),
                tools=tuple(schemas),
                detours=tuple(str(detour) for detour in script.taken),
                verified=True,
                tokens=tokens,
            )
    return Dropped(task.id, task.mutant.mutant.operator, "too long")


def _draw_detours(
    expert: ExpertParameters, session: SessionParameters, draw: random.Random
) -> tuple[Detour, ...]:
    failed_edit = draw.choice((Detour.MISCOPIED, Detour.AMBIGUOUS))
    drawn = [
        detour
        for detour, share in (
            (Detour.SEARCH, expert.search_share if session.hint != "none" else 1.0),
            (Detour.WRONG_READ, expert.wrong_read_share),
            (failed_edit, expert.failed_edit_share),
            (Detour.WRONG_LINE, expert.wrong_line_share),
            (Detour.WRONG_FIX, expert.wrong_fix_share),
        )
        if draw.random() < share
    ]
    return tuple(drawn)


class _Script:
    """Run tests, read, edit, run tests, conclude; with some detours."""

    def __init__(
        self,
        task: BugTask,
        recorder: Recorder,
        backend: LanguageBackend,
        expert: ExpertParameters,
        detours: Sequence[Detour],
        draw: random.Random,
    ) -> None:
        workspace = recorder.session.workspace
        mutant = task.mutant
        self.taken: list[Detour] = []
        self._bug = Bug(
            mutant.file, mutant.function, workspace.read(mutant.file),
            workspace.project.read(mutant.file), mutant.mutant,
        )  # fmt: skip
        self._backend, self._recorder, self._expert = backend, recorder, expert
        self._detours, self._draw = detours, draw
        self._evidence = ""
        self._tried: set[str] = set()  # wrong texts

    def play(self) -> None:
        """Work until the tests pass.

        Raises:
            Stuck: They do not, or an edit cannot be worded.
        """
        self._require(self._test() == "failed", "the tests do not fail")
        self._find()
        before = self._bug.broken
        for wrong in self._wrong_tries():
            before = self._fix_wrongly(before, wrong)
        self._end(before)

    def go_on(self, calls: Sequence[Mapping[str, Any]]) -> None:
        """Make somebody's calls, which nobody shall learn; then do what is right.

        Raises:
            Stuck: They end the session, or what is right cannot be worded.
        """
        for call in calls:
            self._recorder.call(call["name"], "", True, **call["arguments"])
        session = self._recorder.session
        if not calls:
            self._require(self._test() == "failed", "the tests do not fail")
        if session.place != (self._bug.file, self._bug.function):
            self._read(self._bug.function)
        self._end(session.workspace.read(self._bug.file))

    def _end(self, before: str) -> None:
        """Fix what is left, and conclude."""
        self._fix(before)
        self._require(self._recorder.session.workspace.patch.changes
                      == {self._bug.file: self._bug.fixed}, "not restored")  # fmt: skip
        place = self._bug.function or self._bug.file
        self._recorder.conclude(f"Fixed {place}.")

    def _test(self, mistake: bool = False) -> str:
        """Run the tests, unless the edit just did; remember what the first failure says."""
        session = self._recorder.session
        last = session.record.calls[-1].tool if session.record.calls else ""
        if not (session.parameters.test_after_edit and last == "edit"):
            self._recorder.call("run_tests", "", mistake)
        printed = session.messages[-1]["content"].split("\n")
        failures = session.last_evaluation
        for test, result in (failures.tests if failures else {}).items():
            if test in printed and result.message:
                self._evidence = " ".join(assertion(result.message, 1))[:_LINE_CHARS]
        return self._recorder.outcome

    def _find(self) -> None:
        if Detour.SEARCH in self._detours:
            last = self._bug.function.rsplit(".", 1)[-1] or self._bug.file.rsplit("/", 1)[-1]
            self._recorder.call("search", pattern=last)
            self.taken.append(Detour.SEARCH)
        if Detour.WRONG_READ in self._detours:
            self._read_wrongly()
        self._read(self._bug.function)

    def _read(self, name: str, mistake: bool = False) -> None:
        # Without a function around it, what stands a few lines before the bug.
        place = {"name": name} if name else {"from_line": max(1, self._bug.mutant.line - 5)}
        self._recorder.call("read_file", "", mistake, path=self._bug.file, **place)

    def _read_wrongly(self) -> None:
        """A name that is none when the right one was told; another function otherwise."""
        if self._recorder.session.parameters.hint == "function":
            name = self._bug.function.rsplit(".", 1)[-1]
            wrong = f"{name[:-1]}" if len(name) > 1 else f"{name}s"
        else:
            others = [
                found.name
                for found in definitions(self._bug.broken, self._backend.operators.grammar)
                if found.is_function and found.name != self._bug.function
            ]
            wrong = self._draw.choice(others) if others else ""
        if wrong:
            self._read(wrong, mistake=True)
            self.taken.append(Detour.WRONG_READ)

    def _wrong_tries(self) -> list[Detour]:
        """The wrong changes to make, in order."""
        kinds = [x for x in (Detour.WRONG_LINE, Detour.WRONG_FIX) if x in self._detours]
        if not self._recorder.session.parameters.take_back_failed:
            return kinds
        tries = [x for x in kinds for _ in range(self._draw.randint(1, self._expert.wrong_tries))]
        self._draw.shuffle(tries)
        return tries

    def _fix_wrongly(self, before: str, kind: Detour) -> str:
        """Change a line in a way that does not help, see it fail; a wrong line is put back."""
        wrong = self._wrong_text(before, on_the_line=kind is Detour.WRONG_FIX)
        quote = quote_change(before, wrong, self._scope(before)) if wrong else None
        if wrong is None or quote is None:
            return before
        shown = self._evidence
        self._edit(quote, self._odd(quote, ""), mistake=True)
        if self._test() == "ok":
            raise Stuck("a wrong fix passes")
        self.taken.append(kind)
        session = self._recorder.session
        if session.parameters.take_back_failed:
            self._evidence = shown
            return before
        if any(tool.name == "undo" for tool in session.tools):
            self._recorder.call("undo", self._say("That was not it."))
            self._evidence = shown
            return before
        if kind is Detour.WRONG_FIX:
            self._evidence = f"That was not it: {self._evidence}"
            return wrong
        back = quote_change(wrong, before, self._scope(wrong))
        self._require(back is not None, "no quote")
        assert back is not None
        self._edit(back, self._say("That line was right."))
        self._evidence = shown  # of the code as it is again
        return before

    def _wrong_text(self, before: str, on_the_line: bool) -> str | None:
        """The file with another small change, on the odd line or on another of the function."""
        quote = quote_change(before, self._bug.fixed, self._scope(before))
        odd = range(quote.line, quote.line + quote.old.count("\n") + 1) if quote else range(0)
        scope = self._scope(before)
        found = [
            mutant
            for mutant in proposals(before, self._backend.operators)
            if (mutant.line in odd) is on_the_line and scope.first <= mutant.line <= scope.last
        ]
        self._draw.shuffle(found)
        for mutant in found:
            text = apply(before, mutant)
            if text in self._tried or text.count("\n") != before.count("\n"):
                continue  # models try changes of a line
            if text != self._bug.fixed and self._backend.operators.is_mutant(before, text):
                self._tried.add(text)
                return text
        return None

    def _fix(self, before: str) -> None:
        scope = self._scope(before)
        quote = quote_change(before, self._bug.fixed, scope)
        self._require(quote is not None, "no quote")
        assert quote is not None
        slips: dict[Detour, Callable[..., str | None]] = {
            Detour.MISCOPIED: miscopied, Detour.AMBIGUOUS: too_short,
        }  # fmt: skip
        thinking = self._odd(quote, what_undoes(quote))
        for detour, slip in slips.items():
            wrong = slip(before, quote, scope, self._draw) if detour in self._detours else None
            if wrong is not None:
                self._edit(Quote(wrong, quote.new, quote.line), thinking, mistake=True)
                self._require(self._recorder.outcome not in ("ok", "failed"), "a slip was accepted")
                self.taken.append(detour)
                thinking = self._say("Copy the line exactly.")
        self._edit(quote, thinking)
        self._require(self._test() == "ok", "not fixed")

    def _edit(self, quote: Quote, thinking: str = "", mistake: bool = False) -> None:
        self._recorder.call(
            "edit", thinking, mistake, **edit_arguments(quote, self._expert.explain)
        )

    def _scope(self, text: str) -> Scope:
        """The lines of the function that was read, and those of them that were not shown."""
        grammar = self._backend.operators.grammar
        found: Definition | None = None
        for definition in definitions(text, grammar):
            if definition.name == self._bug.function:
                found = definition
        shown = self._recorder.session.parameters.show
        silent = silent_lines(text, grammar) if shown == "code" else frozenset()
        if found is None:
            return Scope(1, text.count("\n") + 1, silent)
        return Scope(found.first_line, found.last_line, silent)

    def _say(self, text: str) -> str:
        return text if self._expert.thinking == "evidence" else ""

    def _odd(self, quote: Quote, why: str) -> str:
        """Which line is odd, and why as far as thinking goes."""
        if self._expert.thinking == "none":
            return ""
        line = quote.old.strip().split("\n")[0].strip()[:_LINE_CHARS]
        odd = f"Odd: {line}"
        if self._expert.thinking == "line" or not why:
            return odd
        return f"{self._evidence}\n{odd}\n{why}"

    def _require(self, holds: bool, reason: str) -> None:
        if not holds:
            raise Stuck(reason)
