"""The canonical conversation: what agents exchange, trajectories store and renderers write.

One schema for every model: a list of messages with ``thinking``, ``tool_calls`` whose arguments are
values and never text, and tool results that name their tool. How a model spells them is a
renderer's business. Light on purpose: no torch, no tokenizer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from curricle.errors import DataError

Role = Literal["system", "user", "assistant", "tool"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CUT = "[{count} characters left out]"
_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "array": (list,), "object": (dict,), "null": (type(None),),
}  # fmt: skip


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MalformedCall(DataError):
    """What a model wrote is no message: its call cannot be read.

    A model's fault, not a user's: an agent's loop shows the text to the model as the observation,
    and counts it.
    """


class ToolDefinition(_Frozen):
    """A tool, as a model is told of it.

    Attributes:
        name: begins with a letter; letters, digits, underscores, dots and hyphens.
        description: one sentence.
        parameters: JSON schema of the arguments: ``properties`` and ``required``.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(
        default_factory=lambda: {"type": "object", "properties": {}, "required": []}
    )

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return _checked_name(name)

    @property
    def properties(self) -> dict[str, Any]:
        """Argument name to its schema, in order."""
        found: dict[str, Any] = self.parameters.get("properties", {})
        return found

    @property
    def required(self) -> tuple[str, ...]:
        """The arguments that must be given."""
        return tuple(self.parameters.get("required", ()))

    def function_schema(self) -> dict[str, Any]:
        """Return the form that chat templates and endpoints take."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters,
            },
        }

    @classmethod
    def from_function_schema(cls, schema: Mapping[str, Any]) -> ToolDefinition:
        """Read the form that chat templates and endpoints take."""
        function = schema["function"]
        return cls(
            name=function["name"],
            description=function.get("description", ""),
            parameters=function.get("parameters") or {"type": "object", "properties": {}},
        )


class ToolCall(_Frozen):
    """One call.

    Attributes:
        name: the tool's.
        arguments: name to JSON value; never text that holds JSON.
    """

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return _checked_name(name)

    @field_validator("arguments", mode="before")
    @classmethod
    def _are_values(cls, arguments: Any) -> Any:
        if isinstance(arguments, str):
            raise ValueError("arguments are text; give an object (json.loads it once)")
        for name, value in dict(arguments).items():
            _checked_name(name)
            _check_json(value)
        return arguments


class Message(_Frozen):
    """One turn.

    Attributes:
        role: who speaks.
        content: the text; of a tool, what it printed. May be empty only of an assistant that
            calls, and of a tool that printed nothing.
        thinking: what the assistant thought before it spoke; empty for nothing.
        tool_calls: what the assistant calls, in order.
        name: of a tool's message: the tool.
        train: whether a loss falls on this assistant turn. A detour that a model should recover
            from, but not learn to take, is context only.
    """

    role: Role
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str | None = None
    train: bool = True

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form, without what is empty."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thinking:
            row["thinking"] = self.thinking
        if self.tool_calls:
            row["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        if self.name is not None:
            row["name"] = self.name
        if not self.train:
            row["train"] = False
        return row


Messages = Sequence[Message]
Tools = Sequence[ToolDefinition]


def system(content: str) -> Message:
    """Return a system message."""
    return Message(role="system", content=content)


def user(content: str) -> Message:
    """Return a user's message."""
    return Message(role="user", content=content)


def assistant(
    content: str = "", *calls: ToolCall, thinking: str = "", train: bool = True
) -> Message:
    """Return an assistant's message."""
    return Message(
        role="assistant", content=content, thinking=thinking, tool_calls=calls, train=train
    )


def tool_result(name: str, content: str) -> Message:
    """Return what a tool printed."""
    return Message(role="tool", name=name, content=content)


def read_message(row: Any, where: str) -> Message:
    """Read the JSON form of a message.

    Both forms of a call are read: ``{"name", "arguments"}`` and the endpoints'
    ``{"type": "function", "function": {...}}``; arguments that are text are JSON, read once.

    Raises:
        DataError: it is none; names the field.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a {type(row).__name__}, not an object with `role`.")
    kept = {key: value for key, value in row.items() if value is not None}
    kept.pop("tool_call_id", None)  # results follow their calls in order
    calls = kept.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, (list, tuple)):
            raise DataError(f"{where}: tool_calls is a {type(calls).__name__}; give a list.")
        kept["tool_calls"] = [_read_call(call, f"{where}, call {n}")
                              for n, call in enumerate(calls, start=1)]  # fmt: skip
    try:
        return Message.model_validate(kept)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where}: {place or 'message'}: {first['msg']}.") from error


def read_tools(rows: Any, where: str) -> tuple[ToolDefinition, ...]:
    """Read tool definitions: ours (``name``, ``parameters``) or the endpoints' form.

    Raises:
        DataError: one is none, or two have one name.
    """
    if not isinstance(rows, (list, tuple)):
        raise DataError(f"{where}: tools is a {type(rows).__name__}; give a list.")
    tools = []
    for number, row in enumerate(rows, start=1):
        try:
            tools.append(
                ToolDefinition.from_function_schema(row)
                if isinstance(row, Mapping) and "function" in row
                else ToolDefinition.model_validate(row)
            )
        except (ValidationError, KeyError, TypeError) as error:
            raise DataError(
                f"{where}, tool {number}: no tool ({_first_line(error)}). Give name, description "
                f"and parameters (JSON schema)."
            ) from error
    names = [tool.name for tool in tools]
    if len(set(names)) != len(names):
        raise DataError(f"{where}: two tools have one name: {', '.join(sorted(names))}.")
    return tuple(tools)


def read_messages(rows: Sequence[Any], where: str) -> tuple[Message, ...]:
    """Read the messages of a conversation.

    Raises:
        DataError: one is no message; names it.
    """
    return tuple(
        row if isinstance(row, Message) else read_message(row, f"{where}, message {number}")
        for number, row in enumerate(rows, start=1)
    )


def check_conversation(messages: Messages, tools: Tools, where: str) -> None:
    """Make sure that a conversation could have happened.

    An optional system message; then the user; an assistant that calls is answered by its tools, in
    the order of its calls, before anybody else speaks.

    Raises:
        DataError: it could not; names the message and the fix.
    """
    if not messages:
        raise DataError(f"{where}: no messages. Leave the row out.")
    pending: list[str] = []
    previous: Message | None = None
    for number, message in enumerate(messages, start=1):
        turn = f"{where}, message {number}"
        allowed = _may_follow(previous, pending)
        if message.role not in allowed:
            raise DataError(
                f"{turn}: role {message.role!r} where {' or '.join(allowed)} belongs. Order the "
                f"turns: optional system, user, assistant; a call is answered by its tool."
            )
        if message.role == "tool":
            expected = pending.pop(0)
            if message.name != expected:
                raise DataError(
                    f"{turn}: a result of {message.name}, but the next call is of {expected}. "
                    f"Results stand in the order of the calls and carry the tool's name."
                )
        elif message.role == "assistant":
            if not message.content and not message.tool_calls:
                raise DataError(f"{turn}: an assistant that says and calls nothing. Remove it.")
            # A detour may well call what is not there: that is what the model recovers from.
            for call in message.tool_calls if message.train else ():
                check_call(call, tools, turn)
            pending = [call.name for call in message.tool_calls]
        elif not message.content:
            raise DataError(f"{turn}: empty content of {message.role}. Remove the message.")
        _check_foreign_fields(message, turn)
        previous = message


def check_call(call: ToolCall, tools: Tools, where: str) -> None:
    """Make sure that a call names a tool and gives it what it needs.

    Raises:
        MalformedCall: unknown tool, missing or unknown argument, or one of another type.
    """
    known = {tool.name: tool for tool in tools}
    if call.name not in known:
        raise MalformedCall(
            f"{where}: unknown tool {call.name!r}. Use {', '.join(known) or 'none: no tools'}."
        )
    tool = known[call.name]
    missing = [name for name in tool.required if name not in call.arguments]
    if missing:
        raise MalformedCall(
            f"{where}: {call.name} lacks {', '.join(missing)}. It takes "
            f"{', '.join(tool.properties)}."
        )
    for name, value in call.arguments.items():
        if name not in tool.properties:
            raise MalformedCall(
                f"{where}: {call.name} has no argument {name!r}. It takes "
                f"{', '.join(tool.properties) or 'none'}."
            )
        wanted = tool.properties[name].get("type")
        if isinstance(wanted, str) and not _has_type(value, wanted):
            raise MalformedCall(
                f"{where}: {call.name}.{name} is {json.dumps(value)[:60]}, not of type {wanted}."
            )


def parse_arguments(text: str, where: str) -> dict[str, Any]:
    """Read the JSON text of a call's arguments.

    Raises:
        MalformedCall: it is no JSON object; says where it ends to be one.
    """
    try:
        arguments = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise MalformedCall(f"{where}: the arguments are not JSON ({error}).") from error
    if not isinstance(arguments, dict):
        raise MalformedCall(
            f"{where}: the arguments are a {type(arguments).__name__}, not a JSON object."
        )
    return arguments


def truncate(text: str, max_chars: int, *, head_share: float = 0.25) -> str:
    """Cut an observation to at most ``max_chars`` characters, and say so in it.

    The end of what a tool prints says most (the summary of a test run), the beginning says what it
    was: both stay, whole lines where they can, and between them stands how much was left out. Runs
    in the time of what is kept, not of what is cut.

    Args:
        text: the observation.
        max_chars: at least 80.
        head_share: share of the room for the beginning.
    """
    if len(text) <= max_chars:
        return text
    if max_chars < 80:  # noqa: PLR2004 (room for the note and a line)
        raise ValueError(f"max_chars={max_chars} leaves no room; at least 80")
    room = max_chars - len(_CUT.format(count=len(text))) - 2
    head = text[: int(room * head_share)]
    tail = text[len(text) - (room - len(head)) :]
    # At a line's end where that costs less than half of the piece.
    if (end := head.rfind("\n")) > len(head) // 2:
        head = head[:end]
    if 0 <= (start := tail.find("\n")) < len(tail) // 2:
        tail = tail[start + 1 :]
    note = _CUT.format(count=len(text) - len(head) - len(tail))
    return f"{head}\n{note}\n{tail}"


def _read_call(call: Any, where: str) -> dict[str, Any]:
    if isinstance(call, ToolCall):
        return call.model_dump()
    if isinstance(call, Mapping) and isinstance(call.get("function"), Mapping):
        call = call["function"]
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise DataError(f"{where}: no call. Give name and arguments.")
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        arguments = parse_arguments(arguments, where)
    return {"name": call["name"], "arguments": {} if arguments is None else arguments}


def _may_follow(previous: Message | None, pending: Iterable[str]) -> tuple[str, ...]:
    if previous is None:
        return ("system", "user")
    if list(pending):
        return ("tool",)
    if previous.role == "system":
        return ("user",)
    if previous.role in ("user", "tool"):
        return ("assistant",)
    return ("user",)


def _check_foreign_fields(message: Message, turn: str) -> None:
    if message.role != "assistant" and (message.thinking or message.tool_calls):
        raise DataError(f"{turn}: only an assistant thinks and calls; this is {message.role}'s.")
    if message.role != "tool" and message.name is not None:
        raise DataError(f"{turn}: only a tool's message has a name; this is {message.role}'s.")


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name; use letters, digits, underscores, dots, hyphens")
    return name


def _check_json(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no form in JSON")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"key {key!r} is no text")
            _check_json(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check_json(inner)
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"a {type(value).__name__} has no form in JSON")


def _has_type(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, _JSON_TYPES.get(wanted, (object,)))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _first_line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return repr(error)
