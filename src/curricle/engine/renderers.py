"""Renderers: canonical conversations to tokens and masks, and a model's tokens back to a message.

One interface for two families. :class:`ChatTemplateRenderer` writes with a Jinja template of ours
that is saved with the checkpoint, so that any server renders the same; ``curricle.engine.harmony``
writes GPT-OSS's format with OpenAI's own library.

The decision that shaped it: each turn is tokenised for itself. So the rendering of a conversation
begins with the rendering of its beginning, token by token, a cache can be kept from turn to turn,
and what a model generated is what training would have read.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.agents.call_formats import CallFormat, parse_turn
from curricle.agents.messages import (
    MalformedCall,
    Message,
    ToolDefinition,
    check_conversation,
    read_messages,
    read_tools,
)
from curricle.engine.rendering import Rendered
from curricle.errors import ConfigError, DataError, SpecialTokenText

AnyMessages = Sequence[Message | Mapping[str, Any]]
AnyTools = Sequence[ToolDefinition | Mapping[str, Any]]

_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", re.DOTALL)
_FORMAT = re.compile(r'^\{#- curricle agent template.*?\{%- set call_format = "(\w+)" -%\}', re.S)


class Renderer(ABC):
    """What every renderer does. Messages and tools are taken as models or in their JSON form."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def stop_token_ids(self) -> tuple[int, ...]:
        """The tokens that end an assistant's turn; pass all of them to whatever generates."""

    @abstractmethod
    def render(self, messages: AnyMessages, tools: AnyTools = (), where: str = "") -> Rendered:
        """Return a conversation's tokens and the mask of what is trained in it.

        Raises:
            DataError: the conversation could not have happened, spells a special token, would
                train nothing or everything, or does not come back as it was.
        """

    @abstractmethod
    def samples(
        self, messages: AnyMessages, tools: AnyTools = (), where: str = ""
    ) -> list[Rendered]:
        """Return the training samples of a conversation; together they train each turn once."""

    @abstractmethod
    def prompt(self, messages: AnyMessages, tools: AnyTools = (), where: str = "") -> list[int]:
        """Return the tokens after which the assistant is to write."""

    @abstractmethod
    def continuation(self, observations: AnyMessages) -> list[int]:
        """Return what to append to a turn that was generated, its stop token included.

        Args:
            observations: what followed it: results of tools, or the user's next message.

        Returns:
            Tokens up to where the assistant is to write again.
        """

    @abstractmethod
    def parse(self, ids: Sequence[int]) -> Message:
        """Read a generated turn.

        Raises:
            MalformedCall: it was cut off before a stop token, or a call is spelled wrongly.
        """

    @abstractmethod
    def text(self, ids: Sequence[int]) -> str:
        """Return tokens as text, special tokens spelled out."""

    def answer(self, ids: Sequence[int]) -> dict[str, Any]:
        """Read a generated turn as an agent's loop takes it; never raises for what is in it.

        Returns:
            The message in JSON form; when it cannot be read, its text as ``content``, without the
            token that ended it, and why as ``malformed``.
        """
        try:
            return self.parse(ids).to_row()
        except MalformedCall as error:
            said = ids[:-1] if ids and ids[-1] in self.stop_token_ids else ids
            return {"role": "assistant", "content": self.text(said), "malformed": str(error)}


class ChatTemplateRenderer(Renderer):
    """ChatML with our tools, thinking and calls, as ``agent_template.jinja`` writes it.

    Args:
        tokenizer: carries ``<|im_start|>`` and ``<|im_end|>``; its chat template is not read.
        call_format: how calls are spelled, see ``curricle.agents.call_formats``.
    """

    name = "chat_template"

    def __init__(self, tokenizer: Tokenizer, call_format: CallFormat = "plain") -> None:
        self.tokenizer = tokenizer
        self.call_format = call_format
        self.template = agent_template(call_format)
        self._start, self._end = (
            _token_id(tokenizer, token) for token in ("<|im_start|>", "<|im_end|>")
        )

    @cached_property
    def stop_token_ids(self) -> tuple[int, ...]:
        """``<|im_end|>``, and the tokenizer's own end if that is another."""
        return tuple(dict.fromkeys((self._end, int(self.tokenizer.eos_token_id))))

    def render(self, messages: AnyMessages, tools: AnyTools = (), where: str = "") -> Rendered:
        """See the base class: all of the assistant's turns are trained, but those that are not to.

        A turn's end token is trained with it; the header of a turn is not.
        """
        conversation, offered = self._checked(messages, tools, where)
        pieces = list(self._pieces(conversation, offered, where))
        ids = np.asarray([i for piece, _ in pieces for i in piece], dtype=np.int64)
        mask = np.repeat([said for _, said in pieces], [len(piece) for piece, _ in pieces])
        if not mask.any():
            raise DataError(f"{where}: no assistant turn to train, so nothing to learn. Leave the "
                            f"row out.")  # fmt: skip
        return Rendered(ids, mask.astype(bool))

    def samples(
        self, messages: AnyMessages, tools: AnyTools = (), where: str = ""
    ) -> list[Rendered]:
        """One sample: every turn sees what it saw when it was written."""
        return [self.render(messages, tools, where)]

    def prompt(self, messages: AnyMessages, tools: AnyTools = (), where: str = "") -> list[int]:
        """See the base class."""
        conversation, offered = self._checked(messages, tools, where)
        if conversation[-1].role == "assistant":
            raise DataError(f"{where}: the assistant spoke last; there is nothing to answer.")
        pieces = self._pieces(conversation, offered, where)
        return [*(i for piece, _ in pieces for i in piece), *self._cue]

    def continuation(self, observations: AnyMessages) -> list[int]:
        """See the base class."""
        where = "observation"
        read = read_messages(observations, where)
        refuse_special_tokens(self.tokenizer, read, where)
        pieces = self._pieces(read, (), where)
        return [*self._line_end, *(i for piece, _ in pieces for i in piece), *self._cue]

    def parse(self, ids: Sequence[int]) -> Message:
        """See the base class."""
        if not ids or ids[-1] not in self.stop_token_ids:
            raise MalformedCall("the turn was cut off before its end: it is too long.")
        return parse_turn(self.tokenizer.decode(list(ids[:-1])), self.call_format)

    def text(self, ids: Sequence[int]) -> str:
        """See the base class."""
        decoded: str = self.tokenizer.decode(list(ids))
        return decoded

    def _checked(
        self, messages: AnyMessages, tools: AnyTools, where: str
    ) -> tuple[tuple[Message, ...], tuple[ToolDefinition, ...]]:
        conversation, offered = read_conversation(messages, tools, where)
        refuse_special_tokens(self.tokenizer, conversation, where, offered)
        return conversation, offered

    def _pieces(
        self, conversation: Sequence[Message], tools: Sequence[ToolDefinition], where: str
    ) -> Iterator[tuple[list[int], bool]]:
        """Yield (tokens, trained?), after comparing what was written with what was meant."""
        written = self.tokenizer.apply_chat_template(
            [message.to_row() for message in conversation],
            tools=[tool.function_schema() for tool in tools] or None,
            chat_template=self.template,
            tokenize=False,
        )
        turns = _TURN.findall(written)
        if tools and conversation[0].role != "system":
            conversation = [Message(role="system"), *conversation]
        assert [role for role, _ in turns] == [message.role for message in conversation], written
        bodies = self.tokenizer([body for _, body in turns], add_special_tokens=False)["input_ids"]
        for message, (role, body), tokens in zip(conversation, turns, bodies, strict=True):
            trained = role == "assistant" and message.train
            if role == "assistant":
                self._check_round_trip(message, body, where)
            yield self._header(role), False
            yield [*tokens, self._end], trained
            yield self._line_end, False

    def _check_round_trip(self, message: Message, body: str, where: str) -> None:
        back = parse_turn(body, self.call_format)
        if back != message.model_copy(update={"train": True}):
            raise DataError(
                f"{where}: an assistant turn does not come back from {self.call_format} calls as "
                f"it was: {body[:120]!r}. Leave the row out, and report the turn."
            )

    def _header(self, role: str) -> list[int]:
        return [self._start, *self._plain(f"{role}\n")]

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @cached_property
    def _cue(self) -> list[int]:
        return self._header("assistant")

    @cached_property
    def _line_end(self) -> list[int]:
        return self._plain("\n")


def agent_template(call_format: CallFormat) -> str:
    """Return our chat template for agents, with calls in this format."""
    template = resources.files("curricle.engine").joinpath("agent_template.jinja").read_text()
    return template.replace('call_format = "plain"', f'call_format = "{call_format}"', 1)


def attach_agent_template(tokenizer: Tokenizer, call_format: CallFormat) -> None:
    """Give a tokenizer our template for agents; it is saved with the checkpoint."""
    tokenizer.chat_template = agent_template(call_format)


def renderer_for(tokenizer: Tokenizer, name: str | None, where: str) -> Renderer:
    """Return the renderer of a checkpoint.

    Args:
        tokenizer: the checkpoint's.
        name: what the parameters name: ``plain``, ``json`` (our template with that call format),
            ``harmony``, or ``None`` to take what the checkpoint carries.
        where: the stage, for the message.

    Raises:
        ConfigError: neither names one, or the name is unknown.
    """
    if name == "harmony":
        from curricle.engine.harmony import HarmonyRenderer

        return HarmonyRenderer()
    if name in ("plain", "json"):
        return ChatTemplateRenderer(tokenizer, name)  # type: ignore[arg-type]  # just compared
    if name is not None:
        raise ConfigError(f"{where}: renderer={name!r} is unknown. Use plain, json or harmony.")
    carried = _FORMAT.match(str(tokenizer.chat_template or ""))
    if carried is None:
        has = (
            "has a chat template without our tool calls" if tokenizer.chat_template else "has none"
        )
        raise ConfigError(
            f"{where}: no chat template for tools: the checkpoint {has}, and the parameters name "
            f"none. Set `renderer` to plain, json or harmony; the first stage that does saves it "
            f"with its checkpoint."
        )
    return ChatTemplateRenderer(tokenizer, carried[1])  # type: ignore[arg-type]  # ours wrote it


def read_conversation(
    messages: AnyMessages, tools: AnyTools, where: str
) -> tuple[tuple[Message, ...], tuple[ToolDefinition, ...]]:
    """Read messages and tools in either form, and make sure that they make a conversation.

    Raises:
        DataError: they do not; names the message.
    """
    offered = read_tools(
        [t.function_schema() if isinstance(t, ToolDefinition) else t for t in tools], where
    )
    conversation = read_messages(messages, where)
    check_conversation(conversation, offered, where)
    return conversation, offered


def refuse_special_tokens(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    where: str,
    tools: Sequence[ToolDefinition] = (),
) -> None:
    """Make sure that nobody spells a token that only the renderer may write.

    Raises:
        SpecialTokenText: somebody does; names the message and the token.
    """
    reserved = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    spelled = re.compile("|".join(map(re.escape, reserved)))
    refuse_spelled(spelled, messages, where, tools)


def refuse_spelled(
    spelled: re.Pattern[str],
    messages: Sequence[Message],
    where: str,
    tools: Sequence[ToolDefinition] = (),
) -> None:
    """As :func:`refuse_special_tokens`, for the tokens of a pattern."""
    for number, message in enumerate(messages, start=1):
        for text in _texts(message.to_row()):
            if found := spelled.search(text):
                raise SpecialTokenText(
                    f"{where}, message {number}: the text spells the special token {found[0]}, "
                    f"which would end or fake a turn. Leave this row out, or its source file."
                )
    for tool in tools:
        if found := spelled.search(" ".join(_texts(tool.model_dump()))):
            raise DataError(
                f"{where}, tool {tool.name}: its definition spells the special token {found[0]}. "
                f"Change its description."
            )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)


def _token_id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or found == tokenizer.unk_token_id:
        raise ConfigError(
            f"The tokenizer has no {token}, which our chat template writes. Use `renderer: "
            f"harmony` for GPT-OSS, or a model whose tokenizer has it."
        )
    return int(found)
