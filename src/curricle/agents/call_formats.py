r"""How a model spells thinking, text and tool calls inside one assistant turn.

A turn is, in this order: thinking between ``<think>`` and ``</think>``, text, calls. Two formats of
a call, to be compared by measurement:

``plain``
    A header line with the tool and its simple arguments, then code outside of any quoting, every
    line behind a mark::

        $ edit path=src/area.py
        -    return width + height
        +    return width * height

    ``-`` marks a line of the argument ``old``, ``+`` one of ``new`` (the old text is written first:
    a small model finds a line by its text, not by its number), ``name|`` the first line of any
    other text and ``|`` its further ones. Nothing is ever escaped, so any text comes back as it
    was: quotes, backslashes, blank lines, what looks like a mark. Blocks keep the order of the
    arguments: `old`, `why`, `new` is the order in which an edit is thought of.

``json``
    ``<tool_call>`` and ``</tool_call>`` around one JSON object, as many servers parse it.

A line of thinking or text that would look like such markup gets a backslash in front. The template
``agent_template.jinja`` writes what this module reads; the renderer compares the two on every turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ValidationError

from curricle.agents.messages import MalformedCall, Message, ToolCall, parse_arguments

CallFormat = Literal["plain", "json"]

_MARKUP = ("$", "<think>", "</think>", "<tool_call>", "\\")
_HEADER = re.compile(r"\$ ([A-Za-z_][A-Za-z0-9_.-]*)(?= |$)")
_ARGUMENT = re.compile(r" ([A-Za-z_][A-Za-z0-9_.-]*)=")
_BLOCK = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)\|(.*)", re.DOTALL)
_LITERAL = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?|true|false|null")
_MARKS = {"-": "old", "+": "new"}


def parse_turn(text: str, call_format: CallFormat) -> Message:
    """Read what an assistant wrote, without its end-of-turn token.

    Raises:
        MalformedCall: a call is spelled wrongly; says which line and what belongs there.
    """
    lines = text.split("\n")
    thinking, lines = _split_thinking(lines)
    opening = "$" if call_format == "plain" else "<tool_call>"
    start = next((n for n, line in enumerate(lines) if line.startswith(opening)), len(lines))
    read = _plain_calls if call_format == "plain" else _json_calls
    try:
        calls = tuple(read(lines[start:]))
    except ValidationError as error:
        raise MalformedCall(f"the call: {error.errors(include_url=False)[0]['msg']}.") from error
    content = "\n".join(_unguarded(line) for line in lines[:start])
    return Message(role="assistant", content=content, thinking=thinking, tool_calls=calls)


def _split_thinking(lines: list[str]) -> tuple[str, list[str]]:
    if lines[0] != "<think>":
        return "", lines
    if "</think>" not in lines:
        raise MalformedCall("thinking that is not closed: a line </think> is missing.")
    end = lines.index("</think>")
    return "\n".join(_unguarded(line) for line in lines[1:end]), lines[end + 1 :] or [""]


def _unguarded(line: str) -> str:
    return line[1:] if line.startswith("\\") and line[1:].startswith(_MARKUP) else line


def _plain_calls(lines: list[str]) -> Iterator[ToolCall]:
    position = 0
    while position < len(lines):
        name, arguments = _read_header(lines[position])
        position += 1
        last = ""
        while position < len(lines) and not lines[position].startswith("$"):
            last = _read_block_line(lines[position], last, arguments)
            position += 1
        yield ToolCall(name=name, arguments=arguments)


def _read_header(line: str) -> tuple[str, dict[str, Any]]:
    line = line.rstrip()
    header = _HEADER.match(line)
    if header is None:
        raise MalformedCall(f"{line[:80]!r} is no call: write `$ tool argument=value`.")
    arguments: dict[str, Any] = {}
    position = header.end()
    while position < len(line):
        key = _ARGUMENT.match(line, position)
        if key is None:
            raise MalformedCall(
                f"{line[position:][:80]!r} after {header[1]} is no argument: write ` name=value`."
            )
        if key[1] in arguments:
            raise MalformedCall(f"{header[1]} has two arguments {key[1]}.")
        arguments[key[1]], position = _read_value(line, key.end())
    return header[1], arguments


def _read_value(line: str, start: int) -> tuple[Any, int]:
    # A space after the sign is forgiven: a small model writes `name= total` as it would in prose.
    if line.startswith(" ", start) and not _ARGUMENT.match(line, start):
        start += 1
    if line.startswith('"', start):
        end = line.find('"', start + 1)
        if end < 0 or line[end + 1 : end + 2] not in ("", " "):
            raise MalformedCall(
                f"{line[start:][:80]!r}: a text in quotes holds no quote. Write it as a block: a "
                f"line of its own, `name|text`."
            )
        return line[start + 1 : end], end + 1
    if line.startswith(("[", "{"), start):
        try:
            return json.JSONDecoder().raw_decode(line, start)
        except ValueError as error:
            raise MalformedCall(f"{line[start:][:80]!r} is not JSON ({error}).") from error
    word = line[start:].partition(" ")[0]
    if not word:
        raise MalformedCall(f'{line[:80]!r}: an argument without a value; "" is the empty text.')
    return (json.loads(word) if _LITERAL.fullmatch(word) else word), start + len(word)


def _read_block_line(line: str, last: str, arguments: dict[str, Any]) -> str:
    """Add a line to the argument that its mark names, and return that argument's name."""
    if line[:1] in _MARKS:
        name, text, continues = _MARKS[line[0]], line[1:], last == _MARKS[line[0]]
    elif line.startswith("|") and last and last not in _MARKS.values():
        name, text, continues = last, line[1:], True
    elif block := _BLOCK.fullmatch(line):
        name, text, continues = block[1], block[2], False
    else:
        raise MalformedCall(f"{line[:80]!r} is no line of a call: begin it with -, +, name| or |.")
    if continues:
        arguments[name] += "\n" + text
    elif name in arguments:
        raise MalformedCall(f"the argument {name} is given twice; its lines belong together.")
    else:
        arguments[name] = text
    return name


def _json_calls(lines: list[str]) -> Iterator[ToolCall]:
    while lines:
        if lines[0] != "<tool_call>" or "</tool_call>" not in lines:
            raise MalformedCall(
                f"{lines[0][:80]!r}: a call stands between the lines <tool_call> and </tool_call>."
            )
        end = lines.index("</tool_call>")
        call = parse_arguments("\n".join(lines[1:end]), "the call")
        if set(call) - {"name", "arguments"} or not isinstance(call.get("arguments", {}), dict):
            raise MalformedCall('a call is {"name": ..., "arguments": {...}}.')
        yield ToolCall(name=call.get("name", ""), arguments=call.get("arguments", {}))
        lines = lines[end + 1 :]
