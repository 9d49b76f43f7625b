"""What is a conversation, and what is refused with which words."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curricle.agents.messages import (
    MalformedCall,
    Message,
    ToolCall,
    ToolDefinition,
    assistant,
    check_call,
    check_conversation,
    parse_arguments,
    read_message,
    read_messages,
    read_tools,
    system,
    tool_result,
    truncate,
    user,
)
from curricle.errors import DataError

EDIT = ToolDefinition(
    name="edit",
    description="Replace old by new.",
    parameters={
        "type": "object",
        "properties": {
            "old": {"type": "string"},
            "new": {"type": "string"},
            "count": {"type": "integer"},
        },
        "required": ["old", "new"],
    },
)
RUN = ToolDefinition(name="run_tests", description="Run the tests.")
CALL = ToolCall(name="run_tests")


def checked(*messages: Message) -> None:
    check_conversation(messages, (EDIT, RUN), "t.jsonl, row 4")


class TestOrder:
    def test_a_call_its_result_and_an_answer_are_a_conversation(self) -> None:
        checked(system("s"), user("u"), assistant("", CALL), tool_result("run_tests", ""),
                assistant("done"), user("more"), assistant("ok"))  # fmt: skip

    @pytest.mark.parametrize(
        ("messages", "number", "role"),
        [
            ((assistant("x"),), 1, "assistant"),
            ((user("u"), user("v")), 2, "user"),
            ((user("u"), system("s")), 2, "system"),
            ((user("u"), assistant("x"), assistant("y")), 3, "assistant"),
            ((user("u"), assistant("x"), tool_result("edit", "ok")), 3, "tool"),
            ((user("u"), assistant("", CALL), user("v")), 3, "user"),
            ((user("u"), assistant("", CALL), assistant("x")), 3, "assistant"),
        ],
    )
    def test_roles_out_of_order_name_the_message(
        self, messages: tuple[Message, ...], number: int, role: str
    ) -> None:
        with pytest.raises(DataError, match=f"row 4, message {number}: role '{role}' where"):
            checked(*messages)

    def test_results_come_in_the_order_of_the_calls(self) -> None:
        edit = ToolCall(name="edit", arguments={"old": "a", "new": "b"})
        both = (user("u"), assistant("", edit, CALL))
        checked(*both, tool_result("edit", "ok"), tool_result("run_tests", "ok"), assistant("x"))
        with pytest.raises(
            DataError, match=r"message 3: a result of run_tests.*next call is of edit"
        ):
            checked(*both, tool_result("run_tests", "ok"), tool_result("edit", "ok"))

    def test_nothing_said_is_refused(self) -> None:
        with pytest.raises(DataError, match="message 2: an assistant that says and calls nothing"):
            checked(user("u"), assistant("", thinking="hm"))
        with pytest.raises(DataError, match="message 1: empty content of user"):
            checked(user(""))
        with pytest.raises(DataError, match="no messages"):
            checked()


class TestCalls:
    def test_an_unknown_tool_is_named_beside_the_known(self) -> None:
        with pytest.raises(MalformedCall, match=r"unknown tool 'delete'\. Use edit, run_tests"):
            checked(user("u"), assistant("", ToolCall(name="delete")))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"old": "a"}, "edit lacks new. It takes old, new, count"),
            ({"old": "a", "new": "b", "line": 3}, "edit has no argument 'line'"),
            ({"old": "a", "new": 3}, "edit.new is 3, not of type string"),
            ({"old": "a", "new": "b", "count": True}, "edit.count is true, not of type integer"),
        ],
    )
    def test_wrong_arguments_say_what_belongs_there(
        self, arguments: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(MalformedCall, match=message):
            check_call(ToolCall(name="edit", arguments=arguments), (EDIT,), "here")

    def test_a_detour_without_loss_may_call_what_is_not_there(self) -> None:
        checked(user("u"), assistant("", ToolCall(name="delete"), train=False),
                tool_result("delete", "error: no tool"), assistant("sorry"))  # fmt: skip

    @pytest.mark.parametrize("text", ["{", "[1]", '{"a": NaN}', "", '{"a": 1} x'])
    def test_malformed_json_is_a_malformed_call(self, text: str) -> None:
        with pytest.raises(MalformedCall, match="the call: the arguments are"):
            parse_arguments(text, "the call")

    def test_text_in_place_of_arguments_is_refused_by_the_schema_and_read_once_from_a_row(
        self,
    ) -> None:
        with pytest.raises(ValueError, match="arguments are text"):
            ToolCall(name="edit", arguments='{"old": "a"}')  # type: ignore[arg-type]
        function = {"name": "edit", "arguments": '{"old": "a", "new": "\\"b\\""}'}
        call = {"id": "1", "type": "function", "function": function}
        row = {"role": "assistant", "content": None, "tool_calls": [call]}
        (read,) = read_message(row, "row 1").tool_calls
        assert read.arguments == {"old": "a", "new": '"b"'}
        function["arguments"] = '{"old": '
        with pytest.raises(MalformedCall, match="row 1, call 1: the arguments are not JSON"):
            read_message(row, "row 1")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": {1}}, {"a": {2: "b"}}])
    def test_a_value_without_a_form_in_json_is_refused(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"no form in JSON|no text"):
            ToolCall(name="edit", arguments={"old": value})


class TestRows:
    def test_rows_come_back_as_they_were(self) -> None:
        messages = (
            user("u"),
            assistant("c", ToolCall(name="edit", arguments={"old": "a", "new": ""}), thinking="t"),
            tool_result("edit", ""), assistant("wrong", train=False),
        )  # fmt: skip
        assert read_messages([m.to_row() for m in messages], "x") == messages

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("hello", "row 1: a str, not an object"),
            ({"role": "robot", "content": "x"}, "row 1: role: Input should be"),
            ({"content": "x"}, "row 1: role: Field required"),
            ({"role": "user", "content": ["x"]}, "row 1: content: Input should be a valid string"),
            ({"role": "user", "content": "x", "mood": 1}, "row 1: mood: Extra inputs"),
            ({"role": "assistant", "tool_calls": "edit"}, "row 1: tool_calls is a str"),
            ({"role": "assistant", "tool_calls": [{"arguments": {}}]}, "call 1: no call"),
            ({"role": "assistant", "tool_calls": [{"name": "a b"}]}, "'a b' is no name"),
        ],
    )
    def test_a_bad_row_names_its_field(self, row: Any, message: str) -> None:
        with pytest.raises(DataError, match=message):
            read_message(row, "row 1")

    def test_tools_are_read_in_both_forms_and_once_each(self) -> None:
        assert read_tools([EDIT.function_schema(), RUN.model_dump()], "x") == (EDIT, RUN)
        with pytest.raises(DataError, match="two tools have one name"):
            read_tools([RUN.model_dump(), RUN.model_dump()], "x")
        with pytest.raises(DataError, match="row 2, tool 1: no tool"):
            read_tools([{"description": "nameless"}], "row 2")


class TestObservations:
    def test_a_short_one_stays(self) -> None:
        assert truncate("short", 80) == "short"

    @given(st.text(max_size=400), st.integers(80, 300))
    def test_a_long_one_has_its_end_its_beginning_and_what_was_left_out(
        self, text: str, limit: int
    ) -> None:
        cut = truncate(text, limit)
        assert len(cut) <= limit
        if len(text) > limit:
            head, rest = cut.split("\n[", 1)[0], cut.rsplit("left out]\n", 1)[1]
            assert text.startswith(head)
            assert text.endswith(rest)
            assert rest

    def test_ten_megabytes_cost_no_time(self) -> None:
        text = "E   assert 1 == 2\n" * 600_000
        started = time.perf_counter()
        cut = truncate(text, 2000)
        assert time.perf_counter() - started < 0.1
        assert cut.endswith("E   assert 1 == 2\n")
        assert " characters left out]" in cut
