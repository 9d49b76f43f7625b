"""A scripted expert answers questions by calling tools; its answers are judged like a model's."""

from __future__ import annotations

import random

from curricle.agents.editing import Scope
from curricle.agents.experts import Recorder, Stuck
from curricle.agents.outline import definitions, silent_lines
from curricle.agents.prompts import opening
from curricle.agents.questions import Question, QuestionKind
from curricle.agents.quoting import Quote, edit_arguments, miscopied, quote_change
from curricle.agents.records import Run, VisibleTests
from curricle.agents.session import ToolSession
from curricle.agents.trajectories import CountTokens, Detour, Dropped, Trajectory
from curricle.agents.workspace import Workspace
from curricle.config.agents import QuestionParameters, SessionParameters
from curricle.languages.backend import LanguageBackend
from curricle.languages.project import Prepared


def question_session(
    question: Question,
    prepared: Prepared,
    backend: LanguageBackend,
    run: Run | None,
    parameters: SessionParameters | None = None,
) -> ToolSession:
    """The session of a question: `question.is_answered(session.record)` judges it afterwards.

    Raises:
        InfrastructureFault: The project has vanished.
    """
    workspace = Workspace(prepared, question.start)
    workspace.require_project()
    return ToolSession(
        workspace,
        backend,
        run,
        opening(question.language, question.request),
        VisibleTests(question.failing, question.passing),
        parameters,
    )


def demonstrate_answer(
    question: Question,
    prepared: Prepared,
    backend: LanguageBackend,
    run: Run | None,
    count_tokens: CountTokens,
    *,
    seed: int,
    session: SessionParameters | None = None,
    parameters: QuestionParameters | None = None,
) -> Trajectory | Dropped:
    """Answer a question in a session, and record it. Depends on its arguments alone.

    Args:
        question: What to find or to do.
        prepared: The project that it is asked of.
        backend: Its language.
        run: Executes tests; needed by questions with failing tests alone.
        count_tokens: Length of a conversation as rendered.
        seed: With the question's id decides whether an edit is miscopied first.
        session: What tools show.
        parameters: The share of those, and the most tokens.

    Raises:
        InfrastructureFault: The machine failed; nothing is known of the question.
    """
    parameters = parameters or QuestionParameters()
    draw = random.Random(f"{seed}:{question.id}")
    slips = draw.random() < parameters.failed_edit_share
    for slip in dict.fromkeys((slips, False)):
        environment = question_session(question, prepared, backend, run, session)
        recorder = Recorder(environment, train_mistakes=False)
        script = _Answer(question, recorder, backend, slip, draw, parameters.explain)
        try:
            recorder.conclude(script.find())
        except Stuck as stuck:
            return Dropped(question.id, question.operator, str(stuck))
        if not question.is_answered(environment.record):
            return Dropped(question.id, question.operator, "wrong answer")
        schemas = tuple(tool.function_schema() for tool in environment.tools)
        messages = tuple(environment.messages)
        if question.kind is QuestionKind.SPOT:
            schemas, messages = (), messages[1:]  # there is nothing to be told about tools
        tokens = count_tokens(messages, schemas)
        if tokens <= parameters.max_tokens:
            return Trajectory(
                task=question.id,
                kind=str(question.kind),
                language=question.language,
                project=question.project,
                operator=question.operator,
                messages=messages,
                tools=schemas,
                detours=tuple(str(detour) for detour in script.taken),
                verified=not question.start or bool(question.failing),
                tokens=tokens,
            )
    return Dropped(question.id, question.operator, "too long")


class _Answer:
    """Makes the calls that a question needs."""

    def __init__(
        self,
        question: Question,
        recorder: Recorder,
        backend: LanguageBackend,
        slip: bool,
        draw: random.Random,
        explain: bool,
    ) -> None:
        self.taken: list[Detour] = []
        self._question, self._recorder, self._backend = question, recorder, backend
        self._slip, self._draw, self._explain = slip, draw, explain

    def find(self) -> str:
        """Call what is needed, and return what to conclude with.

        Raises:
            Stuck: The tools do not show the answer.
        """
        asked = self._question
        if asked.kind is QuestionKind.SPOT:
            return asked.answer
        if asked.kind is QuestionKind.DEFINED:
            return self._search()
        if asked.failing:
            printed = self._recorder.call("run_tests")
            if asked.kind is QuestionKind.FAILING:
                return _shown([test for test in asked.failing if test in printed.split("\n")])
        printed = self._recorder.call("read_file", path=asked.file, name=asked.name)
        if asked.result:
            self._edit()
            return "Done." if asked.kind is QuestionKind.REPLACE else f"Fixed {asked.name}."
        lines = [line.strip() for line in printed.split("\n")]
        return _shown([asked.answer] if asked.answer in (*lines, "None.") else [])

    def _search(self) -> str:
        file, line = self._question.answer.rsplit(":", 1)
        text = self._recorder.session.workspace.read(file).split("\n")[int(line) - 1].strip()
        last = self._question.name.rsplit(".", 1)[-1]
        pattern = text[: text.index(last) + len(last)]
        printed = self._recorder.call("search", pattern=pattern)
        places = [hit.split(": ", 1)[0] for hit in printed.split("\n")]
        return _shown([self._question.answer] if self._question.answer in places else [])

    def _edit(self) -> None:
        asked, workspace = self._question, self._recorder.session.workspace
        before = workspace.read(asked.file)
        scope = self._scope(before)
        quote = quote_change(before, asked.result, scope)
        if quote is None:
            raise Stuck("no quote")
        wrong = miscopied(before, quote, scope, self._draw) if self._slip else None
        if wrong is not None:
            slip = Quote(wrong, quote.new, quote.line)
            self._recorder.call("edit", "", True, **edit_arguments(slip, self._explain))
            self.taken.append(Detour.MISCOPIED)
        self._recorder.call("edit", **edit_arguments(quote, self._explain))

    def _scope(self, text: str) -> Scope:
        grammar = self._backend.operators.grammar
        shown = self._recorder.session.parameters.show
        silent = silent_lines(text, grammar) if shown == "code" else frozenset()
        found = [one for one in definitions(text, grammar) if one.name == self._question.name]
        if not found:
            return Scope(1, text.count("\n") + 1, silent)
        return Scope(found[-1].first_line, found[-1].last_line, silent)


def _shown(answers: list[str]) -> str:
    """The first answer that the tools showed.

    Raises:
        Stuck: They showed none.
    """
    if not answers:
        raise Stuck("answer not shown")
    return answers[0]
