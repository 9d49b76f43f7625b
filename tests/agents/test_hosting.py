"""Environments in processes: what hangs or dies costs its own conversation and no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from curricle.agents.hosting import Answered, HostedEnvironments
from curricle.agents.remote import RemoteEnvironments
from curricle.errors import ExecutionFailed
from tests.agents.hosted import FUNCTION


@pytest.fixture
def hosted() -> Iterator[HostedEnvironments]:
    with HostedEnvironments(FUNCTION, {}, {}, workers=1, timeout_s=3.0) as environments:
        yield environments


def next_answer(hosted: HostedEnvironments) -> Answered:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for answer in hosted.poll(0.1):
            return answer
    pytest.fail("no answer")


def say(hosted: HostedEnvironments, name: str, content: str) -> Answered:
    hosted.step(name, {"role": "assistant", "content": content})
    return next_answer(hosted)


def opened(hosted: HostedEnvironments, *names: str) -> None:
    for name in names:
        hosted.open(name, {})
        assert next_answer(hosted).value["messages"][0]["content"] == "count"


def shown(answer: Answered) -> tuple[str, str]:
    total, _, process = answer.value["observation"]["content"].partition(" in ")
    return total, process


def test_conversations_in_one_process_are_strangers(hosted: HostedEnvironments) -> None:
    opened(hosted, "a", "b")
    assert [shown(say(hosted, n, "2"))[0] for n in ("a", "a", "b")] == ["2", "4", "2"]
    hosted.score("a")
    assert next_answer(hosted).value["reward"] == 4.0
    with pytest.raises(ValueError, match="a has no environment"):
        hosted.step("a", {})


def test_why_a_conversation_is_masked_is_said(
    hosted: HostedEnvironments, caplog: pytest.LogCaptureFixture
) -> None:
    opened(hosted, "a")
    say(hosted, "a", "-1")
    hosted.score("a")
    assert next_answer(hosted).value["reward"] is None
    assert "a conversation is masked: below nothing" in caplog.text


@pytest.mark.parametrize(
    ("word", "reason"), [("hang", "longer than 3 s and was killed"), ("die", "status 7")]
)
def test_others_go_on_in_another_process_as_if_nothing_had_happened(
    hosted: HostedEnvironments, word: str, reason: str
) -> None:
    opened(hosted, "good", "bad")
    before = shown(say(hosted, "good", "5"))
    lost: Any = say(hosted, "bad", word)
    assert (lost.name, lost.value) == ("bad", {})
    assert reason in lost.fault
    after = shown(say(hosted, "good", "1"))
    assert (before[0], after[0]) == ("5", "6")
    assert before[1] != after[1]


def test_a_conversation_that_was_dropped_is_answered_no_more(hosted: HostedEnvironments) -> None:
    opened(hosted, "a", "b")
    hosted.step("a", {"role": "assistant", "content": "1"})
    hosted.drop("a")
    assert say(hosted, "b", "3").name == "b"


def test_environments_that_cannot_be_set_up_end_the_run() -> None:
    with (
        HostedEnvironments(FUNCTION, {"broken": True}, {}, workers=1, timeout_s=3.0) as broken,
        pytest.raises(ExecutionFailed, match="nowhere to count"),
    ):
        broken.open("a", {})
        next_answer(broken)


def test_nothing_is_computed_while_a_model_thinks(hosted: HostedEnvironments) -> None:
    with RemoteEnvironments(hosted) as room:
        environment = room.task("a", {}, []).open()
        environment.step({"content": "1"})
        before = time.process_time()
        time.sleep(0.6)
        assert time.process_time() - before < 0.1
        answered, _ = environment.step({"content": "2"})
        assert answered is not None and str(answered["content"]).startswith("3 ")
