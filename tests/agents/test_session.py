"""What an agent sees of a real project with a real bug."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from curricle.agents.failures import Failure, failure_of
from curricle.agents.prompts import bug_session
from curricle.agents.records import Ending
from curricle.agents.session import ToolSession
from curricle.agents.workspace import Workspace
from curricle.config.agents import SessionParameters
from curricle.errors import InfrastructureFault
from curricle.languages.commands import Level
from curricle.languages.tasks import BugTask
from tests.agents.conftest import BACKEND, FILE, Bench


def call(tool: str, /, **arguments: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"name": tool, "arguments": arguments}],
    }


def conclusion(text: str = "Fixed.") -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def session(bench: Bench, boundary: BugTask) -> ToolSession:
    return bug_session(boundary, bench.prepared, BACKEND, bench.run)


def said(session: ToolSession, tool: str, /, **arguments: Any) -> str:
    observation, _ = session.step(call(tool, **arguments))
    assert observation is not None
    return str(observation["content"])


class TestFixingABug:
    def test_the_first_messages_name_the_place_as_far_as_the_hint_goes(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        def request(hint: Any) -> str:
            parameters = SessionParameters(hint=hint)
            return str(
                bug_session(boundary, bench.prepared, BACKEND, bench.run, parameters).start()[-1][
                    "content"
                ]
            )

        assert request("function").endswith("Find the bug in intervals.py, merge and fix it.")
        assert request("file").endswith("Find the bug in intervals.py and fix it.")
        assert "intervals.py" not in request("none")

    def test_a_bug_is_found_fixed_and_tested(self, session: ToolSession) -> None:
        failed = said(session, "run_tests")
        assert failed.startswith("FAILED ")
        assert "assert" in failed and "==" in failed, "expected and actual values"
        source = said(session, "read_file", path=FILE, name="merge")
        assert "if merged and start < merged[-1][1]:" in source
        assert '"""' not in source, "documentation is not shown"
        assert session.is_spent, "reading changes nothing"
        edited = said(
            session,
            "edit",
            old="if merged and start < merged[-1][1]:",
            new="if merged and start <= merged[-1][1]:",
        )
        assert not session.is_spent
        assert edited.startswith("edited intervals.py:")
        assert said(session, "run_tests").startswith("PASSED ")
        assert session.step(conclusion()) == (None, True)
        record = session.record
        assert record.ending is Ending.CONCLUDED and record.answer == "Fixed."
        assert [c.outcome for c in record.calls] == ["failed", "ok", "ok", "ok"]
        assert record.patch.changes == {FILE: session.workspace.project.read(FILE)}

    def test_a_fix_that_breaks_other_tests_is_told(self, bench: Bench, boundary: BugTask) -> None:
        task = dataclasses.replace(boundary, failing=boundary.failing[:1])
        session = bug_session(task, bench.prepared, BACKEND, bench.run)
        said(session, "read_file", path=FILE, name="merge")
        said(session, "edit", old="start < merged", new="start <= merged")
        said(session, "edit", old="max(end, merged[-1][1])", new="end")
        text = said(session, "run_tests")
        assert "others fail now" in text or text.startswith("FAILED")

    def test_a_failure_names_the_projects_own_line(self, bench: Bench) -> None:
        task = bench.task("part.partition", "parts.partition", "wrong_variable")
        text = said(bug_session(task, bench.prepared, BACKEND, bench.run), "run_tests")
        assert "NameError" in text
        assert "at intervals.py:74 in parse: first, dash, last = parts.partition" in text

    def test_the_functions_that_failing_tests_reach_are_named(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        reaching = {
            "intervals.py::merge": boundary.failing,
            "intervals.py::overlap": boundary.passing[:3],
        }
        session = bug_session(boundary, bench.prepared, BACKEND, bench.run, reaching=reaching)
        assert "reached: intervals.py::merge" in said(session, "run_tests")

    def test_held_out_tests_are_never_run_nor_shown(self, bench: Bench) -> None:
        task = bench.task("start <= merged", "start < merged", "comparison_flipped", heldout=1)
        session = bug_session(task, bench.prepared, BACKEND, bench.run)
        text = said(session, "run_tests")
        assert session.last_evaluation is not None
        assert not set(task.heldout) & set(session.last_evaluation.tests)
        assert not any(test in text for test in task.heldout)

    def test_tests_can_follow_an_edit_at_once(self, bench: Bench, boundary: BugTask) -> None:
        parameters = SessionParameters(test_after_edit=True)
        session = bug_session(boundary, bench.prepared, BACKEND, bench.run, parameters)
        text = said(
            session, "edit", path=FILE, old="start < merged[-1][1]", new="start <= merged[-1][1]"
        )
        assert text.splitlines()[1].startswith("PASSED")

    def test_edits_are_taken_back_one_by_one(self, session: ToolSession) -> None:
        said(session, "edit", path=FILE, old="start < merged[-1][1]", new="start > merged[-1][1]")
        said(session, "edit", path=FILE, old="start > merged[-1][1]", new="start == merged[-1][1]")
        said(session, "undo")
        (changed,) = session.record.patch.changes.values()
        assert changed is not None and "start > merged[-1][1]" in changed
        said(session, "undo")
        assert not session.record.patch.changes
        assert said(session, "undo") == "error: there is no edit to take back."

    def test_an_edit_that_fails_is_taken_back_and_not_tried_twice(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        parameters = SessionParameters(
            test_after_edit=True, take_back_failed=True, failures_after_edit=0
        )
        session = bug_session(boundary, bench.prepared, BACKEND, bench.run, parameters)
        wrong = {"path": FILE, "old": "start < merged[-1][1]", "new": "start > merged[-1][1]"}
        first, *rest = said(session, "edit", **wrong).splitlines()
        assert first.startswith("edited") and rest[0].startswith("FAILED")
        assert rest[1:] == ["the edit is taken back"], "no failure is described"
        assert session.is_spent
        assert not session.record.patch.changes and session.record.tried
        assert said(session, "edit", **wrong).startswith("error: this was tried")
        assert [made.outcome for made in session.record.calls] == ["failed", "tried"]
        right = {**wrong, "new": "start <= merged[-1][1]"}
        assert said(session, "edit", **right).splitlines()[1].startswith("PASSED")
        assert session.record.patch.changes and not session.is_spent, "what passes stays"

    def test_what_was_taken_back_still_tells_why_the_bug_is_not_fixed(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        parameters = SessionParameters(test_after_edit=True, take_back_failed=True)
        session = bug_session(boundary, bench.prepared, BACKEND, bench.run, parameters)
        said(session, "edit", path=FILE, old="start < merged[-1][1]", new="start > merged[-1][1]")
        session.step({"role": "assistant", "content": "Done."})
        failure = failure_of(boundary, bench.prepared.project, session.record)
        assert failure is Failure.WRONG_FIX

    def test_nothing_follows_an_edit_where_there_is_nothing_to_run(self, bench: Bench) -> None:
        parameters = SessionParameters(test_after_edit=True)
        session = ToolSession(Workspace(bench.prepared), BACKEND, None, [], parameters=parameters)
        text = said(session, "edit", path=FILE, old="start <= merged[-1][1]", new="start < merged")
        assert text.startswith("edited ") and "\n" not in text

    def test_a_unified_diff_fixes_as_well(self, session: ToolSession) -> None:
        diff = (
            f"--- a/{FILE}\n+++ b/{FILE}\n@@ -1,1 +1,1 @@\n"
            "-        if merged and start < merged[-1][1]:\n"
            "+        if merged and start <= merged[-1][1]:\n"
        )
        assert said(session, "apply_patch", patch=diff) == "patched intervals.py"
        assert said(session, "run_tests").startswith("PASSED")

    def test_lines_can_be_numbered_and_documentation_shown(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        parameters = SessionParameters(show="all", numbered=True)
        session = bug_session(boundary, bench.prepared, BACKEND, bench.run, parameters)
        first, second, *_ = said(session, "read_file", path=FILE, name="merge").splitlines()
        assert first.startswith("13: def merge(") and second.startswith('14:     """')


class TestCallsThatCannotBeCarriedOut:
    @pytest.mark.parametrize(
        ("message", "outcome", "reason"),
        [
            (call("delete_everything"), "unknown_tool", "there is no tool"),
            (call("edit", old="x"), "bad_arguments", "edit lacks new"),
            (call("read_file", path=3), "bad_arguments", "not of type string"),
            (call("run_tests", fast=True), "bad_arguments", "no argument 'fast'"),
            (call("read_file", path="../../etc/passwd"), "refused", "no source file"),
            (call("read_file", path="tests/test_intervals.py"), "refused", "no source file"),
            (call("read_file", path=FILE, name="marge"), "no_name", "Functions: overlap, merge"),
            (call("read_file", path=FILE, from_line=9999), "bad_arguments", "between 1 and"),
            (call("edit", old="a", new="b"), "no_place", "read the place first"),
            (call("apply_patch", patch="please"), "malformed", "malformed patch"),
            (call("search", pattern="(", regex=True), "malformed", "not a regular expression"),
            (
                {"role": "assistant", "content": '{"tool": ', "malformed": "JSON ends early"},
                "malformed_call",
                "JSON ends early",
            ),
            (
                {"role": "assistant", "tool_calls": [{"name": "edit", "arguments": "{"}]},
                "malformed_call",
                "arguments are not JSON",
            ),
            ({"role": "assistant", "tool_calls": ["edit"]}, "malformed_call", "no call"),
            ({"role": "assistant", "tool_calls": 7}, "malformed_call", "no call"),
        ],
    )
    def test_it_is_answered_and_counted(
        self, session: ToolSession, message: dict[str, Any], outcome: str, reason: str
    ) -> None:
        observation, done = session.step(message)
        assert observation is not None and not done
        assert reason in observation["content"]
        assert session.record.calls[0].outcome == outcome
        assert session.record.patch.changes == {}

    def test_many_in_a_row_end_the_session(self, session: ToolSession) -> None:
        for expected in (False, False, True):
            _, done = session.step(call("nothing"))
            assert done is expected
        assert session.record.ending is Ending.INVALID

    def test_the_same_call_again_and_again_ends_the_session(self, session: ToolSession) -> None:
        for _ in range(2):
            said(session, "search", pattern="nowhere")
        said(session, "search", pattern="elsewhere")
        for _ in range(3):
            assert session.record.ending is None
            said(session, "search", pattern="nowhere")
        assert session.record.ending is Ending.REPEATS

    def test_the_number_of_turns_is_bounded(self, bench: Bench, boundary: BugTask) -> None:
        parameters = SessionParameters(max_turns=2)
        session = bug_session(boundary, bench.prepared, BACKEND, bench.run, parameters)
        assert session.step(call("search", pattern="merge"))[1] is False
        assert session.step(call("search", pattern="merge"))[1] is True
        assert session.record.ending is Ending.TURNS

    def test_of_several_calls_only_the_first_is_carried_out(self, session: ToolSession) -> None:
        message = call("search", pattern="def merge")
        message["tool_calls"] += call("run_tests")["tool_calls"]
        observation, _ = session.step(message)
        assert observation is not None
        assert "only the first call" in observation["content"]
        assert len(session.record.calls) == 1


class TestBounds:
    def test_a_pattern_that_would_take_for_ever_is_stopped(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        source = bench.prepared.project.read(FILE)
        parameters = SessionParameters(search_timeout_s=0.2)
        session = bug_session(boundary, bench.prepared, BACKEND, bench.run, parameters)
        session.workspace = session.workspace.write(FILE, source + "# " + "a" * 50 + "!\n")
        started = time.monotonic()
        observation, _ = session.step(call("search", pattern="(a|aa)+$", regex=True))
        assert time.monotonic() - started < 2.0
        assert observation is not None and "took longer" in observation["content"]

    def test_an_observation_of_ten_megabytes_is_cut(self, bench: Bench) -> None:
        task = bench.task(
            "return sum(end - start for start, end in merge(intervals))",
            'raise ValueError("x" * 10_000_000)',
            "raised",
        )
        text = said(bug_session(task, bench.prepared, BACKEND, bench.run), "run_tests")
        assert text.startswith("FAILED") and len(text) <= 1200

    def test_an_endless_loop_ends_at_the_time_limit(self, bench: Bench) -> None:
        task = bench.task("low, high = 0, len", "low, high = 1, len", "integer_changed")
        session = bug_session(task, bench.prepared, BACKEND, limited_run(bench, 2.0))
        said(session, "read_file", path=FILE, name="index_of")
        said(session, "edit", old="low = middle + 1", new="low = middle")
        text = said(session, "run_tests")
        assert text.startswith(("STOPPED", "FAILED")), text

    def test_a_vanished_project_is_no_fault_of_the_agent(
        self, bench: Bench, boundary: BugTask, session: ToolSession, tmp_path: Any
    ) -> None:
        gone = dataclasses.replace(
            bench.prepared,
            project=dataclasses.replace(bench.prepared.project, root=tmp_path / "gone"),
        )
        with pytest.raises(InfrastructureFault, match="vanished"):
            bug_session(boundary, gone, BACKEND, bench.run)
        session.workspace = dataclasses.replace(session.workspace, prepared=gone)
        observation, done = session.step(call("run_tests"))
        assert done and observation is not None
        assert "not you" in observation["content"]
        assert session.record.ending is Ending.INFRASTRUCTURE
        assert "vanished" in session.record.note


def limited_run(bench: Bench, wall_s: float) -> Any:
    from curricle.agents.prompts import sandboxed_run
    from curricle.execution.bubblewrap import BubblewrapSandbox
    from curricle.execution.limits import Limits

    return sandboxed_run(BACKEND, bench.prepared, BubblewrapSandbox(), Limits(wall_s=wall_s))


def test_the_language_brings_its_own_tools(session: ToolSession) -> None:
    names = [tool.name for tool in session.tools]
    assert names[:6] == ["run_tests", "read_file", "search", "edit", "undo", "apply_patch"]
    assert set(names[6:]) == {spec.name for spec in BACKEND.tools}
    for tool in session.tools:
        schema = tool.parameters
        assert set(schema["required"]) <= set(schema["properties"])
    assert {spec.level for spec in BACKEND.tools} <= {Level.CHECK, Level.LINT}
