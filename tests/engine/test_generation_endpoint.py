"""Endpoints that work, hang, trickle and talk nonsense: real requests to a real process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from curricle.agents.generator import Completion, Turn
from curricle.config.generation import EndpointParameters
from curricle.engine.generation.endpoint import EndpointGenerator, TextCodec
from curricle.errors import ConfigError, EndpointError

SERVER = Path(__file__).with_name("misbehaving_server.py")
ASKED = [{"role": "user", "content": "hello"}]
LETTERS = TextCodec(
    decode=lambda tokens: "".join(map(chr, tokens)),
    encode=lambda text: [ord(letter) for letter in text],
    stop={"<end>": 0},
)


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def endpoint(server: int, manner: str, **changes: Any) -> EndpointParameters:
    settings: dict[str, Any] = {"timeout_s": 0.5, "retries": 0, "backoff_s": 0.01, **changes}
    return EndpointParameters(url=f"http://127.0.0.1:{server}/{manner}/v1", model="m", **settings)


def ask(parameters: EndpointParameters, messages: list[dict[str, Any]] | None = None) -> Completion:
    with closing(EndpointGenerator(parameters)) as generator:
        generator.submit(Turn("a", (), 20, messages=messages or ASKED))
        return wait(generator, 1)[0]


def wait(generator: EndpointGenerator, count: int) -> list[Completion]:
    done: list[Completion] = []
    deadline = time.monotonic() + 30
    while len(done) < count and time.monotonic() < deadline:
        done += generator.poll(0.1)
    assert len(done) == count
    return done


def test_a_chat_answer_is_a_message_with_the_servers_counts(server: int) -> None:
    completion = ask(endpoint(server, "fine"))
    assert completion.message == {"role": "assistant", "content": "You said hello"}
    assert (completion.ending, completion.read_tokens, completion.length) == ("stop", 12, 3)


def test_completions_carry_the_whole_conversation_as_text(server: int) -> None:
    parameters = endpoint(server, "fine", api="completions")
    with closing(EndpointGenerator(parameters, codec=LETTERS)) as generator:
        generator.submit(Turn("a", [ord("x"), ord("y")], 20))
        first = wait(generator, 1)[0]
        generator.submit(Turn("a", [ord("z")], 20))
        second = wait(generator, 1)[0]
    assert first.tokens == [ord("y"), ord("x"), 0]
    assert second.text == "z\x00xyyx"


def test_requests_run_side_by_side(server: int) -> None:
    parameters = endpoint(server, "slow", api="completions", timeout_s=20)
    with closing(EndpointGenerator(parameters, batch_size=10, codec=LETTERS)) as generator:
        started = time.monotonic()
        for number in range(10):
            generator.submit(Turn(f"c{number}", [65], 20))
        wait(generator, 10)
        assert time.monotonic() - started < 2.0  # one after the other takes 3


@pytest.mark.parametrize("manner", ["hang", "trickle"])
def test_a_server_that_never_ends_its_answer_is_cut_off(server: int, manner: str) -> None:
    started = time.monotonic()
    completion = ask(endpoint(server, manner, retries=1))
    assert completion.ending == "failed"
    assert "no answer within 0.5 s" in completion.error
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "manner",
    ["html", "empty", "null", "list", "no_choices", "no_message", "content_number", "calls_text",
     "usage_text", "deep", "drop", "bad_request", "overloaded"],
)  # fmt: skip
def test_nonsense_is_a_failed_completion_that_says_what_came(server: int, manner: str) -> None:
    completion = ask(endpoint(server, manner))
    assert completion.ending == "failed"
    assert completion.error


def test_an_endless_answer_is_cut_at_its_limit(server: int) -> None:
    completion = ask(endpoint(server, "huge", max_response_bytes=10_000))
    assert "more than 10000 bytes" in completion.error


def test_what_passes_is_retried(server: int) -> None:
    assert ask(endpoint(server, "flaky", retries=3)).ending == "stop"


def test_a_call_with_broken_arguments_is_an_answer_that_says_so(server: int) -> None:
    message = ask(endpoint(server, "bad_call")).message
    assert message is not None
    assert "not JSON" in message["malformed"]
    assert "tool_calls" not in message


@pytest.mark.parametrize("manner", ["no_key", "no_model"])
def test_a_refusal_of_all_requests_is_an_error_with_the_parameters_to_check(
    server: int, manner: str
) -> None:
    with pytest.raises(EndpointError, match=r"refused model 'm'.*generation\.endpoint"):
        ask(endpoint(server, manner))


def test_a_server_that_is_not_there_fails_the_run_after_a_few_requests() -> None:
    parameters = EndpointParameters(
        url="http://127.0.0.1:9/v1", model="m", retries=1, backoff_s=0.01, max_failures=3
    )
    with closing(EndpointGenerator(parameters)) as generator:
        for number in range(6):
            generator.submit(Turn(f"c{number}", (), 20, messages=ASKED))
        with pytest.raises(EndpointError, match=r"failed 3 requests in a row, each 2 times"):
            wait(generator, 6)


def test_an_address_that_is_none_is_an_error() -> None:
    with pytest.raises(EndpointError, match=r"generation\.endpoint\.url=ftp"):
        ask(EndpointParameters(url="ftp://nowhere", model="m"))


def test_a_dropped_conversation_gives_no_completion(server: int) -> None:
    with closing(EndpointGenerator(endpoint(server, "hang", timeout_s=60))) as generator:
        generator.submit(Turn("a", (), 20, messages=ASKED))
        assert generator.poll(0.2) == []
        generator.drop("a")
        assert generator.poll(5) == []


def test_calls_and_results_are_sent_as_endpoints_take_them(server: int) -> None:
    calls = [{"name": "search", "arguments": {"pattern": "x"}}, {"name": "run_tests"}]
    messages: list[dict[str, Any]] = [
        *ASKED,
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "name": "search", "content": "nothing"},
        {"role": "assistant", "content": "", "malformed": "no JSON"},
        {"role": "tool", "name": "", "content": "error: no JSON"},
    ]
    completion = ask(endpoint(server, "echo"), messages)
    assert completion.message is not None
    sent = json.loads(completion.message["content"])["messages"]
    assert [call["function"]["name"] for call in sent[1]["tool_calls"]] == ["search"]
    assert sent[2]["tool_call_id"] == sent[1]["tool_calls"][0]["id"]
    assert sent[4] == {"role": "user", "content": "error: no JSON"}


def test_a_key_that_is_not_exported_is_named(server: int) -> None:
    with pytest.raises(ConfigError, match="CURRICLE_TEST_KEY"):
        EndpointGenerator(endpoint(server, "fine", api_key_env="CURRICLE_TEST_KEY"))
