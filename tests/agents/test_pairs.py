"""Pairs of conversations: which are worth comparing."""

from __future__ import annotations

from typing import Any

from curricle.agents.pairs import differ_in_length_only

READ = {"name": "read_file", "arguments": {"path": "a.py"}}
RUN = {"name": "run_tests", "arguments": {}}


def edit(new: str) -> dict[str, Any]:
    return {"name": "edit", "arguments": {"old": "x", "new": new}}


def talk(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Fix it."}]
    for call in calls:
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "name": call["name"], "content": "printed"})
    return messages


def test_another_edit_is_a_difference() -> None:
    assert not differ_in_length_only(talk(READ, edit("y"), RUN), talk(READ, edit("z"), RUN))


def test_turns_after_the_end_of_the_other_are_length() -> None:
    assert differ_in_length_only(talk(READ, edit("y")), talk(READ, edit("y"), RUN))


def test_turns_that_repeat_an_earlier_one_are_length() -> None:
    assert differ_in_length_only(talk(READ, edit("y")), talk(READ, READ, READ, edit("y")))


def test_a_detour_that_the_other_did_not_take_is_a_difference() -> None:
    assert not differ_in_length_only(talk(READ, edit("y")), talk(READ, RUN, edit("y")))


def test_what_is_said_beside_a_call_is_no_deed() -> None:
    chatty = talk(READ, edit("y"))
    chatty[1]["content"] = "Let me look."
    assert differ_in_length_only(talk(READ, edit("y")), chatty)
