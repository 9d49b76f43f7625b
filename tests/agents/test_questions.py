from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from curricle.agents.answers import demonstrate_answer, question_session
from curricle.agents.call_formats import parse_turn
from curricle.agents.questions import (
    NO_LINE,
    Question,
    QuestionKind,
    library_questions,
    task_questions,
)
from curricle.agents.trajectories import Dropped, Trajectory
from curricle.config.agents import QuestionParameters
from curricle.languages.engines import Quota, builtin_proposals, select
from curricle.languages.project import Prepared
from curricle.languages.tasks import BugTask
from tests.agents.conftest import BACKEND, Bench
from tests.agents.test_session import said
from tests.agents.test_trajectories import calls, count_tokens
from tests.execution.python_projects import sample_project


@pytest.fixture(scope="module")
def library() -> Prepared:
    return Prepared(sample_project("textkit"), None, "textkit")


@pytest.fixture(scope="module")
def questions(library: Prepared) -> list[Question]:
    """Over sources alone, with slips that nobody ran."""
    project, operators = library.project, BACKEND.operators
    proposed = builtin_proposals(project, operators)
    drawn = select(project, operators, proposed, Quota(limit=12, per_function=3, per_operator=3))
    parameters = QuestionParameters(per_kind=6)
    return library_questions(project, BACKEND, drawn.mutants, seed=2, parameters=parameters)


def answered(question: Question, prepared: Prepared, run: Any = None) -> Trajectory | Dropped:
    parameters = QuestionParameters(max_tokens=4000)
    return demonstrate_answer(
        question, prepared, BACKEND, run, count_tokens, seed=1, parameters=parameters
    )


def test_every_question_about_sources_is_answered_by_calls(
    library: Prepared, questions: list[Question]
) -> None:
    wanted = {
        QuestionKind.DEFINED: ["search"],
        QuestionKind.LAST_LINE: ["read_file"],
        QuestionKind.REPLACE: ["read_file", "edit"],
        QuestionKind.LOCALISE: ["read_file"],
        QuestionKind.MEND: ["read_file", "edit"],
        QuestionKind.SPOT: [],
    }
    assert {question.kind for question in questions} == set(wanted)
    for question in questions:
        made = answered(question, library)
        assert isinstance(made, Trajectory), (question, made)
        assert [c for c in calls(made) if c != "edit" or "miscopied" not in made.detours] in (
            wanted[question.kind],
            ["read_file"],
        )
        assert made.verified is not bool(question.start), "nobody ran the slips"


def test_each_odd_line_has_its_contrast(questions: list[Question]) -> None:
    odd = [q for q in questions if q.kind is QuestionKind.LOCALISE]
    mended = [q for q in questions if q.kind in (QuestionKind.MEND, QuestionKind.SPOT)]
    assert len(mended) == 12 - 6, "every mutant that no line is asked about"
    broken = {q.name for q in odd if q.start}
    assert broken and broken == {q.name for q in odd if not q.start}
    assert {q.answer for q in odd if not q.start} == {NO_LINE}


def test_a_shown_function_is_mended_in_the_words_of_an_edit(
    library: Prepared, questions: list[Question]
) -> None:
    (question, *_) = [q for q in questions if q.kind is QuestionKind.SPOT]
    made = answered(question, library)
    assert isinstance(made, Trajectory)
    asked, said = made.messages
    assert (asked["role"], said["role"], made.tools) == ("user", "assistant", ())
    edit = parse_turn(f"$ edit\n{said['content']}", "plain").tool_calls[0].arguments
    assert list(edit) == ["old", "why", "new"]
    assert edit["old"].split("\n")[0].strip() in asked["content"]
    session = question_session(question, library, BACKEND, None)
    session.step({"role": "assistant", "content": said["content"] + " "})
    assert not question.is_answered(session.record), "one right answer, to the letter"


def test_slips_of_a_function_are_shown_together_and_each_is_mended(library: Prepared) -> None:
    project, operators = library.project, BACKEND.operators
    proposed = builtin_proposals(project, operators)
    quota = Quota(limit=40, per_function=4, per_operator=40)
    drawn = select(project, operators, proposed, quota).mutants
    parameters = QuestionParameters(per_kind=0, spot_share=1.0, spot_slips=3)
    asked = library_questions(project, BACKEND, drawn, seed=2, parameters=parameters)
    several = [question for question in asked if "+" in question.operator]
    assert several
    for question in several:
        session = question_session(question, library, BACKEND, None)
        said(session, "read_file", path=question.file, name=question.name)
        edits = re.findall(r"(?:-.*\n)+why\|.*\n(?:\+.*\n?)+", question.answer)
        assert "".join(edits) == question.answer and len(edits) in (2, 3)
        for edit in edits:
            (call,) = parse_turn(f"$ edit\n{edit}".rstrip("\n"), "plain").tool_calls
            assert said(session, "edit", **call.arguments).startswith("edited")
        assert session.workspace.read(question.file) == project.read(question.file)


def test_questions_repeat_for_their_seed(library: Prepared, questions: list[Question]) -> None:
    def asked(seed: int) -> list[str]:
        found = library_questions(library.project, BACKEND, (), seed=seed)
        return [question.id for question in found]

    assert asked(1) == asked(1) != asked(2)
    assert len({question.id for question in questions}) == len(questions)


def test_questions_about_bugs_run_the_tests(bench: Bench, boundary: BugTask) -> None:
    parameters = QuestionParameters(run_share=1.0)
    failing, localise = task_questions(
        bench.prepared.project, BACKEND, [boundary], seed=1, parameters=parameters
    )
    made = answered(failing, bench.prepared, bench.run)
    assert isinstance(made, Trajectory) and made.verified
    assert made.messages[-1]["content"] in boundary.failing
    made = answered(localise, bench.prepared, bench.run)
    assert isinstance(made, Trajectory) and made.verified
    assert calls(made) == ["run_tests", "read_file"]
    assert made.messages[-1]["content"] == "if merged and start < merged[-1][1]:"


class TestJudging:
    @pytest.fixture
    def question(self, questions: list[Question]) -> Question:
        return next(q for q in questions if q.kind is QuestionKind.LOCALISE and q.start)

    def judged(self, question: Question, prepared: Prepared, *messages: dict[str, Any]) -> bool:
        session = question_session(question, prepared, BACKEND, None)
        for message in messages:
            session.step(message)
        return question.is_answered(session.record)

    def test_the_quoted_line_is_right_and_another_is_wrong(
        self, question: Question, library: Prepared
    ) -> None:
        def answer(text: str) -> dict[str, Any]:
            return {"role": "assistant", "content": text}

        assert self.judged(question, library, answer(f"`{question.answer}`"))
        assert not self.judged(question, library, answer(NO_LINE))
        assert not self.judged(question, library, answer(question.answer + " or not"))
        assert not self.judged(question, library)

    def test_an_answer_that_comes_with_a_change_is_wrong(
        self, question: Question, library: Prepared
    ) -> None:
        edit = {"path": question.file, "old": question.answer, "new": "pass"}
        call = {"role": "assistant", "tool_calls": [{"name": "edit", "arguments": edit}]}
        said = {"role": "assistant", "content": question.answer}
        assert not self.judged(question, library, call, said)

    def test_a_question_whose_answer_no_tool_shows_is_dropped(
        self, question: Question, library: Prepared
    ) -> None:
        hidden = dataclasses.replace(question, answer="not in the function")
        dropped = answered(hidden, library)
        assert isinstance(dropped, Dropped) and dropped.reason == "answer not shown"


def test_there_is_nothing_to_run_in_a_library(library: Prepared) -> None:
    question = library_questions(library.project, BACKEND, (), seed=1)[0]
    session = question_session(question, library, BACKEND, None)
    observation, _ = session.step(
        {"role": "assistant", "tool_calls": [{"name": "run_tests", "arguments": {}}]}
    )
    assert observation is not None and "no tests to run" in observation["content"]
