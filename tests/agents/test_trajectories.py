"""Experts at work: every trajectory here was executed, detour by detour."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any, ClassVar

import pytest

from curricle.agents.experts import demonstrate_fix
from curricle.agents.trajectories import Dropped, Trajectory, balanced, trajectory_statistics
from curricle.config.agents import ExpertParameters, SessionParameters
from curricle.errors import DataError
from curricle.languages.tasks import BugTask
from tests.agents.conftest import BACKEND, FILE, Bench

SHARES = (
    "search_share",
    "wrong_read_share",
    "failed_edit_share",
    "wrong_fix_share",
    "wrong_line_share",
)
STRAIGHT = dict.fromkeys(SHARES, 0.0)


def count_tokens(messages: Any, tools: Any) -> int:
    return len(json.dumps([list(messages), list(tools)])) // 4


def demonstrated(
    bench: Bench,
    task: BugTask,
    session: SessionParameters | None = None,
    seed: int = 1,
    **expert: Any,
) -> Trajectory:
    made = demonstrate_fix(
        task,
        bench.prepared,
        BACKEND,
        bench.run,
        count_tokens,
        seed=seed,
        session=session,
        expert=ExpertParameters(**{"max_tokens": 4000, **STRAIGHT, **expert}),
    )
    assert isinstance(made, Trajectory), made
    return made


def calls(trajectory: Trajectory) -> list[str]:
    return [m["tool_calls"][0]["name"] for m in trajectory.messages if m.get("tool_calls")]


def mistakes(trajectory: Trajectory) -> list[dict[str, Any]]:
    return [m["tool_calls"][0]["arguments"] for m in trajectory.messages if m.get("train") is False]


class TestTheStraightWay:
    def test_it_runs_reads_edits_runs_and_concludes(self, bench: Bench, boundary: BugTask) -> None:
        made = demonstrated(bench, boundary)
        assert calls(made) == ["run_tests", "read_file", "edit", "run_tests"]
        assert made.messages[-2]["content"].startswith("PASSED")
        assert made.messages[-1] == {"role": "assistant", "content": "Fixed merge."}
        assert made.verified and not made.detours and not mistakes(made)

    def test_thinking_names_the_evidence_or_the_line_or_nothing(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        def before_the_edit(thinking: str) -> str:
            made = demonstrated(bench, boundary, thinking=thinking)
            edit = next(
                m for m in made.messages if m.get("tool_calls", [{}])[0].get("name") == "edit"
            )
            return str(edit.get("thinking", ""))

        evidence, odd, why = before_the_edit("evidence").split("\n")
        assert evidence == "assert [(3, 4), (4, 5)] == [(3, 5)]", "what the test really printed"
        assert odd == "Odd: if merged and start < merged[-1][1]:"
        assert why == "< should be <="
        assert before_the_edit("line") == odd
        assert before_the_edit("none") == ""

    def test_a_missing_line_is_put_back(self, bench: Bench) -> None:
        task = bench.task("        position = max(position, end)\n", "", "statement_deleted")
        made = demonstrated(bench, task)
        assert "missing: position = max(position, end)" in json.dumps(made.messages)

    def test_tests_that_follow_an_edit_are_not_run_again(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        made = demonstrated(bench, boundary, SessionParameters(test_after_edit=True))
        assert calls(made) == ["run_tests", "read_file", "edit"]

    def test_it_is_the_same_for_the_same_seed(self, bench: Bench, boundary: BugTask) -> None:
        shares = dict.fromkeys(SHARES, 0.5)
        first = demonstrated(bench, boundary, seed=3, **shares)
        assert first == demonstrated(bench, boundary, seed=3, **shares)


class TestDetours:
    @pytest.mark.parametrize(
        ("share", "hint", "detours"),
        [
            ("search_share", "function", {"search"}),
            ("wrong_read_share", "function", {"wrong_read"}),
            ("wrong_read_share", "file", {"wrong_read"}),
            ("failed_edit_share", "function", {"miscopied", "ambiguous"}),
            ("wrong_fix_share", "function", {"wrong_fix"}),
            ("wrong_line_share", "function", {"wrong_line"}),
        ],
    )
    def test_each_is_taken_and_recovered_from(
        self, bench: Bench, boundary: BugTask, share: str, hint: Any, detours: set[str]
    ) -> None:
        made = demonstrated(bench, boundary, SessionParameters(hint=hint), **{share: 1.0})
        assert set(made.detours) < detours | {"none"} and len(made.detours) == 1
        assert len(mistakes(made)) == (share != "search_share"), "mistakes carry no loss"
        assert made.messages[-2]["content"].startswith("PASSED")

    def test_without_a_hint_the_place_is_searched_for(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        made = demonstrated(bench, boundary, SessionParameters(hint="none"))
        assert calls(made)[:3] == ["run_tests", "search", "read_file"]

    def test_a_wrong_line_is_put_back_before_the_right_one_is_changed(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        without_undo = SessionParameters(tools=("run_tests", "read_file", "edit"))
        made = demonstrated(bench, boundary, without_undo, wrong_line_share=1.0)
        assert calls(made)[2:] == ["edit", "run_tests", "edit", "edit", "run_tests"]
        (wrong,) = mistakes(made)
        back = made.messages[10]["tool_calls"][0]["arguments"]
        assert (back["old"], back["new"]) == (wrong["new"], wrong["old"])
        assert made.messages[9]["content"].startswith("FAILED")
        first = made.messages[3]["content"].split("\n")[2]
        assert made.messages[12]["thinking"].startswith(first), "evidence of the code as it is now"

    def test_what_failed_is_undone_where_there_is_a_tool_for_it(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        session = SessionParameters(
            tools=("run_tests", "read_file", "edit", "undo"), test_after_edit=True
        )
        made = demonstrated(bench, boundary, session, wrong_line_share=1.0, wrong_fix_share=1.0)
        assert made.detours == ("wrong_line", "wrong_fix")
        assert calls(made)[2:] == ["edit", "undo", "edit", "undo", "edit"]
        assert len(mistakes(made)) == 2
        assert made.messages[-2]["content"].split("\n")[1].startswith("PASSED")

    def test_several_tries_fail_each_another_where_a_session_takes_them_back(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        session = SessionParameters(
            tools=("run_tests", "read_file", "edit"), test_after_edit=True, take_back_failed=True
        )
        made = demonstrated(
            bench, boundary, session, wrong_line_share=1.0, wrong_fix_share=1.0, wrong_tries=3
        )
        wrong = [json.dumps(edit, sort_keys=True) for edit in mistakes(made)]
        assert len(wrong) == len(set(wrong)) == len(made.detours) > 2
        assert set(calls(made)[2:]) == {"edit"}
        assert made.messages[-2]["content"].split("\n")[1].startswith("PASSED")

    def test_mistakes_can_be_learned_from_when_asked(self, bench: Bench, boundary: BugTask) -> None:
        made = demonstrated(bench, boundary, wrong_fix_share=1.0, train_mistakes=True)
        assert made.detours == ("wrong_fix",) and not mistakes(made)


class TestSteppingIn:
    """An expert goes on from calls that somebody else made."""

    SESSION = SessionParameters(
        tools=("run_tests", "read_file", "edit"), test_after_edit=True, take_back_failed=True
    )
    READ: ClassVar = {"name": "read_file", "arguments": {"path": FILE, "name": "merge"}}
    WRONG: ClassVar = {
        "name": "edit",
        "arguments": {"old": "start < merged[-1][1]", "new": "start > merged[-1][1]"},
    }

    def after(self, bench: Bench, task: BugTask, *made: dict[str, Any]) -> Trajectory | Dropped:
        return demonstrate_fix(
            task, bench.prepared, BACKEND, bench.run, count_tokens, seed=0, session=self.SESSION,
            expert=ExpertParameters(max_tokens=4000), after=made,
        )  # fmt: skip

    def test_it_does_what_is_right_in_the_place_of_the_next_call(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        made = self.after(bench, boundary, self.READ, self.WRONG)
        assert isinstance(made, Trajectory) and calls(made) == ["read_file", "edit", "edit"]
        assert [
            m["tool_calls"][0]["arguments"] for m in made.messages if m.get("train") is False
        ] == [self.READ["arguments"], self.WRONG["arguments"]]
        assert made.messages[-2]["content"].split("\n")[1].startswith("PASSED")

    def test_before_any_call_it_begins_as_always(self, bench: Bench, boundary: BugTask) -> None:
        made = self.after(bench, boundary)
        assert isinstance(made, Trajectory) and calls(made) == ["run_tests", "read_file", "edit"]

    def test_it_reads_what_was_not_read(self, bench: Bench, boundary: BugTask) -> None:
        made = self.after(bench, boundary, {"name": "run_tests", "arguments": {}})
        assert isinstance(made, Trajectory) and calls(made) == ["run_tests", "read_file", "edit"]

    def test_where_nothing_is_left_to_do_there_is_no_correction(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        right = {
            "name": "edit",
            "arguments": {**self.WRONG["arguments"], "new": "start <= merged[-1][1]"},
        }
        assert isinstance(self.after(bench, boundary, self.READ, right), Dropped)


class TestWhatIsDropped:
    def test_a_long_one_is_made_again_without_detours(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        straight = demonstrated(bench, boundary).tokens
        made = demonstrated(bench, boundary, wrong_line_share=1.0, max_tokens=straight)
        assert made.tokens == straight and not made.detours

    def test_one_that_is_too_long_even_so_is_dropped_and_counted(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        dropped = demonstrate_fix(
            boundary,
            bench.prepared,
            BACKEND,
            bench.run,
            count_tokens,
            seed=1,
            expert=ExpertParameters(max_tokens=64),
        )
        assert dropped == Dropped(boundary.id, "comparison_flipped", "too long")

    def test_a_task_whose_tests_do_not_fail_is_dropped(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        stale = dataclasses.replace(boundary, failing=boundary.passing[:1])
        dropped = demonstrate_fix(stale, bench.prepared, BACKEND, bench.run, count_tokens, seed=1)
        assert isinstance(dropped, Dropped) and dropped.reason == "the tests do not fail"

    def test_statistics_tell_what_was_made_and_what_was_not(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        made = [
            demonstrated(bench, boundary),
            demonstrated(bench, boundary, wrong_fix_share=1.0),
        ]
        report = trajectory_statistics([*made, Dropped("x", "y", "too long")])
        assert (report["made"], report["dropped"]) == (2, 1)
        assert report["by_detour"] == {"none": 1, "wrong_fix": 1}
        assert report["by_operator"] == {"comparison_flipped": 2}
        assert report["dropped_by_reason"] == {"too long": 1}
        assert report["tokens"]["total"] == sum(trajectory.tokens for trajectory in made)
        assert 0.8 < report["trained_turns"] < 1.0
        assert trajectory_statistics([])["tokens"]["max"] == 0


class TestStoring:
    def test_a_trajectory_is_read_back_as_it_was(self, bench: Bench, boundary: BugTask) -> None:
        made = demonstrated(bench, boundary, failed_edit_share=1.0)
        read = Trajectory.from_json(json.loads(json.dumps(made.to_json())))
        assert read == made and read.id == made.id

    @pytest.mark.parametrize("cut", [-1, 5])
    def test_half_a_conversation_is_refused(
        self, bench: Bench, boundary: BugTask, cut: int
    ) -> None:
        row = demonstrated(bench, boundary).to_json()
        with pytest.raises(DataError, match="must end"):
            Trajectory.from_json({**row, "messages": [*row["messages"][:cut]]})

    def test_a_missing_key_is_named(self) -> None:
        with pytest.raises(DataError, match="messages"):
            Trajectory.from_json({"id": "abc", "task": "x"})


class TestBalance:
    ITEMS = tuple([f"a{n}" for n in range(50)] + [f"b{n}" for n in range(5)] + ["c0", "c1"])

    def drawn(self, **limits: Any) -> Counter[str]:
        chosen = balanced(self.ITEMS, lambda i: i[0], lambda i: i, seed=1, **limits)
        assert len(set(chosen)) == len(chosen)
        return Counter(item[0] for item in chosen)

    def test_groups_take_turns(self) -> None:
        assert self.drawn(limit=6) == {"a": 2, "b": 2, "c": 2}
        assert self.drawn(limit=10) == {"a": 4, "b": 4, "c": 2}

    def test_no_group_has_more_than_its_share(self) -> None:
        found = self.drawn(max_share=0.5)
        assert found["a"] <= sum(found.values()) / 2
        assert found == {"a": 7, "b": 5, "c": 2}

    def test_without_a_cap_everything_is_drawn(self) -> None:
        assert self.drawn() == {"a": 50, "b": 5, "c": 2}

    def test_it_repeats_for_its_seed_whatever_the_order(self) -> None:
        def draw(items: Any, seed: int) -> list[str]:
            return balanced(items, lambda i: i[0], lambda i: i, seed=seed, limit=9)

        assert draw(self.ITEMS, 1) == draw(self.ITEMS[::-1], 1) != draw(self.ITEMS, 2)
