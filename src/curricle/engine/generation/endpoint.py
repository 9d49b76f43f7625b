"""Generation by a server that speaks OpenAI's protocol, with everything about it bounded.

One request has one deadline over all of it, from the connection to the last byte: a server that
accepts and hangs, trickles or never ends an answer is cut off. What can pass is retried; what a
server says at last that is no answer becomes a failed completion, which callers count; a server
that refuses as such, or fails too often in a row, is an error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import takewhile
from typing import Any

import httpx

from curricle.agents.generator import Completion, Ending, Turn
from curricle.config.generation import EndpointParameters
from curricle.errors import ConfigError, EndpointError

logger = logging.getLogger(__name__)

_MISCONFIGURED = frozenset({401, 403, 404, 405})
_MAY_PASS = frozenset({408, 409, 425, 429, *range(500, 600)})
_LONGEST_PAUSE_S = 30.0
_SHOWN_CHARS = 200


class _Unusable(Exception):
    """No answer this time; another attempt may have one."""


class _Refused(Exception):
    """The server refused this request, and would again."""


class TextCodec:
    """Text of tokens and back, for the completions protocol.

    Attributes:
        decode: the text of tokens, special ones included.
        encode: the tokens of a text, without any added.
        stop: the text of each stop token, and its id.
    """

    def __init__(
        self,
        decode: Callable[[Sequence[int]], str],
        encode: Callable[[str], Sequence[int]],
        stop: Mapping[str, int],
    ) -> None:
        self.decode = decode
        self.encode = encode
        self.stop = dict(stop)


class EndpointGenerator:
    """Asks a server; requests run side by side in an event loop of their own thread."""

    heeds_unlike = False

    def __init__(
        self, parameters: EndpointParameters, batch_size: int = 16, codec: TextCodec | None = None
    ) -> None:
        """Connect lazily.

        Args:
            parameters: the server.
            batch_size: requests at the same time.
            codec: needed for ``api: completions``.

        Raises:
            ConfigError: the key's variable is not set, or the codec is missing.
        """
        if parameters.api == "completions" and codec is None:
            raise ConfigError(
                "generation.endpoint.api=completions needs a tokenizer. "
                "Name a checkpoint whose tokenizer it is, or use api=chat."
            )
        # Compressed answers could be larger than what bounds them.
        headers = {"Accept-Encoding": "identity"}
        if parameters.api_key_env:
            key = os.environ.get(parameters.api_key_env)
            if not key:
                raise ConfigError(
                    f"generation.endpoint.api_key_env={parameters.api_key_env}: the variable is "
                    f"not set. Export it, or leave the parameter empty."
                )
            headers["Authorization"] = f"Bearer {key}"
        self._parameters = parameters
        self._codec = codec
        self._headers = headers
        self._conversations: dict[str, list[int]] = {}
        self._requests: dict[str, Future[None]] = {}
        self._done: queue.Queue[Completion | EndpointError] = queue.Queue()
        self._failures = 0
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(batch_size)
        self._client: httpx.AsyncClient | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()

    # The interface

    def submit(self, turn: Turn) -> None:
        """See :class:`curricle.agents.generator.Generator`."""
        self._conversations.setdefault(turn.conversation, []).extend(turn.tokens)
        self._requests[turn.conversation] = asyncio.run_coroutine_threadsafe(
            self._answer(turn), self._loop
        )

    def poll(self, timeout_s: float) -> list[Completion]:
        """See :class:`curricle.agents.generator.Generator`.

        Raises:
            EndpointError: the server cannot be used.
        """
        completed: list[Completion] = []
        while self._requests:
            try:
                result = self._done.get(timeout=0.0 if completed else timeout_s)
            except queue.Empty:
                break
            if isinstance(result, EndpointError):
                raise result
            if self._requests.pop(result.conversation, None) is None:
                continue  # dropped meanwhile
            self._count(result)
            self._conversations[result.conversation].extend(result.tokens)
            completed.append(result)
        return completed

    def drop(self, conversation: str) -> None:
        """See :class:`curricle.agents.generator.Generator`."""
        request = self._requests.pop(conversation, None)
        if request is not None:
            request.cancel()
        self._conversations.pop(conversation, None)

    def close(self) -> None:
        """Cut off what is under way and end the thread."""
        for conversation in list(self._requests):
            self.drop(conversation)
        if self._client is not None:
            asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _count(self, completion: Completion) -> None:
        self._failures = self._failures + 1 if completion.ending == "failed" else 0
        if self._failures >= self._parameters.max_failures:
            raise EndpointError(
                f"{self._parameters.url} failed {self._failures} requests in a row, each "
                f"{self._parameters.retries + 1} times; the last: {completion.error}. Look at the "
                f"server, or raise generation.endpoint.max_failures."
            )

    # In the event loop

    async def _answer(self, turn: Turn) -> None:
        async with self._slots:
            try:
                self._done.put(await self._attempt(turn))
            except _Refused as refused:
                self._done.put(_failed(turn, str(refused)))
            except EndpointError as error:
                self._done.put(error)
            except Exception as error:  # a defect of ours must not leave the caller waiting
                self._done.put(EndpointError(f"{self._parameters.url}: {error!r}"))
                raise

    async def _attempt(self, turn: Turn) -> Completion:
        parameters, last = self._parameters, ""
        for attempt in range(parameters.retries + 1):
            if attempt:
                pause = parameters.backoff_s * 2 ** (attempt - 1)
                await asyncio.sleep(min(pause, _LONGEST_PAUSE_S))
            try:
                async with asyncio.timeout(parameters.timeout_s):
                    answer = await self._post(self._request(turn))
                return self._read(turn, answer)
            except TimeoutError:
                last = f"no answer within {parameters.timeout_s:g} s"
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise EndpointError(
                    f"generation.endpoint.url={parameters.url}: {error}. "
                    f"Give an address such as http://localhost:8000/v1."
                ) from error
            except httpx.TransportError as error:
                last = f"{type(error).__name__}: {error}"
            except _Unusable as unusable:
                last = str(unusable)
            logger.info("endpoint: attempt %d for %s: %s", attempt + 1, turn.conversation, last)
        return _failed(turn, last)

    async def _post(self, body: Mapping[str, Any]) -> Any:
        """Return the JSON of one answer, read under the size limit."""
        parameters = self._parameters
        if self._client is None:
            # The deadline is ours; the pool is as wide as the slots.
            limits = httpx.Limits(max_connections=None)
            self._client = httpx.AsyncClient(timeout=None, headers=self._headers, limits=limits)
        path = "completions" if parameters.api == "completions" else "chat/completions"
        url = f"{parameters.url.rstrip('/')}/{path}"
        async with self._client.stream("POST", url, json=body) as response:
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > parameters.max_response_bytes:
                    raise _Unusable(f"an answer of more than {parameters.max_response_bytes} bytes")
            said = f"status {response.status_code}: {_shown(content)}"
            if response.status_code in _MISCONFIGURED:
                raise EndpointError(
                    f"{url} refused model {parameters.model!r}: {said}. Check "
                    f"generation.endpoint (url, model, api_key_env)."
                )
            if response.status_code in _MAY_PASS:
                raise _Unusable(said)
            if response.status_code != httpx.codes.OK:
                raise _Refused(said)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _Unusable(f"an answer that is not JSON: {_shown(content)}") from error

    def _request(self, turn: Turn) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._parameters.model,
            "max_tokens": turn.max_new_tokens,
            "temperature": turn.temperature,
            "seed": turn.seed,
        }
        if self._codec is not None and self._parameters.api == "completions":
            body["prompt"] = self._codec.decode(self._conversations[turn.conversation])
            body["stop"] = list(self._codec.stop)
            return body
        body["messages"] = to_endpoint(turn.messages)
        if turn.tools:
            body["tools"] = list(turn.tools)
        return body

    def _read(self, turn: Turn, answer: Any) -> Completion:
        try:
            choice = answer["choices"][0]
            usage = answer.get("usage") or {}
            read = int(usage.get("prompt_tokens") or 0)
            ending: Ending = "length" if choice.get("finish_reason") == "length" else "stop"
            if self._codec is not None and self._parameters.api == "completions":
                text = choice["text"]
                tokens = list(self._codec.encode(text))[: turn.max_new_tokens]
                if ending == "stop":
                    tokens.append(next(iter(self._codec.stop.values())))
                return Completion(turn.conversation, tokens, ending, text=text, read_tokens=read)
            message = from_endpoint(choice["message"])
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _Unusable(
                f"an answer that is none ({error!r}): {_shown(json.dumps(answer).encode())}"
            ) from error
        counted = int(usage.get("completion_tokens") or 0)
        return Completion(
            turn.conversation, (), ending, message=message, read_tokens=read,
            counted_tokens=max(0, min(counted, turn.max_new_tokens)),
        )  # fmt: skip


def to_endpoint(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as an endpoint takes them: calls with ids, results that name them."""
    rows: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        row: dict[str, Any] = {"role": message["role"], "content": message.get("content") or ""}
        if calls := message.get("tool_calls"):
            # Only calls that were carried out: servers refuse one without its result.
            results = takewhile(lambda later: later["role"] == "tool", messages[number + 1 :])
            calls = calls[: sum(1 for _ in results)]
            open_calls = [f"call_{number}_{index}" for index in range(len(calls))]
            row["tool_calls"] = [
                {"id": name, "type": "function", "function": _function(call)}
                for name, call in zip(open_calls, calls, strict=True)
            ]
        if message["role"] == "tool" and open_calls:
            row["tool_call_id"] = open_calls.pop(0)
        elif message["role"] == "tool":
            row["role"] = "user"  # what was said about a call that could not be read
        rows.append(row)
    return rows


def _function(call: Mapping[str, Any]) -> dict[str, str]:
    return {"name": call["name"], "arguments": json.dumps(call.get("arguments") or {})}


def from_endpoint(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return an endpoint's message as ours; what a call got wrong is under ``malformed``.

    Raises:
        TypeError: it is no message.
    """
    content = message.get("content") or ""
    if not isinstance(content, str):
        raise TypeError(f"content is a {type(content).__name__}")
    read: dict[str, Any] = {"role": "assistant", "content": content}
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str):
        read["thinking"] = thinking
    calls = []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        arguments = function.get("arguments") or "{}"
        try:
            parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError as error:
            read["malformed"] = f"the arguments are not JSON ({error})"
            continue
        if not isinstance(parsed, dict):
            read["malformed"] = "the arguments are not a JSON object"
            continue
        calls.append({"name": str(function["name"]), "arguments": parsed})
    if calls and "malformed" not in read:
        read["tool_calls"] = calls
    return read


def _failed(turn: Turn, error: str) -> Completion:
    return Completion(turn.conversation, (), "failed", error=error)


def _shown(content: bytes | bytearray) -> str:
    return bytes(content[:_SHOWN_CHARS]).decode(errors="replace").strip() or "nothing"
