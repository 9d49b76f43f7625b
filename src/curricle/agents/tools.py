"""The tools that an agent may call, as JSON schemas, and the check of a call against them.

There are few, each with as few arguments as it can do with: every argument is a place where a small
model can go wrong. A language adds its own through `LanguageBackend.tools`; those take no argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curricle.agents.messages import MalformedCall, ToolCall, ToolDefinition, check_call
from curricle.agents.refusal import Refused
from curricle.languages.backend import ToolSpec


def _tool(
    name: str, description: str, properties: Mapping[str, Any] | None = None, *required: str
) -> ToolDefinition:
    parameters = {
        "type": "object",
        "properties": dict(properties or {}),
        "required": list(required),
        "additionalProperties": False,
    }
    return ToolDefinition(name=name, description=description, parameters=parameters)


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


COMMON_TOOLS: tuple[ToolDefinition, ...] = (
    _tool("run_tests", "Run the failing tests and those nearby."),
    _tool(
        "read_file",
        "Read a source file, or one function of it.",
        {
            "path": _text("The file."),
            "name": _text("A function or class in it, such as Codec.encode."),
            "from_line": {"type": "integer", "description": "Where to start, from 1."},
        },
        "path",
    ),
    _tool(
        "search",
        "Find lines in the source files.",
        {
            "pattern": _text("What to look for."),
            "regex": {"type": "boolean", "description": "Whether it is a regular expression."},
        },
        "pattern",
    ),
    _tool(
        "edit",
        "Replace old by new; old must be unique.",
        {
            "old": _text("The text that stands there, exactly."),
            "why": _text("What is wrong with it, in a few words."),
            "new": _text("The text to put in its place."),
            "path": _text("The file; what was read last if left out."),
        },
        "old",
        "new",
    ),
    _tool("undo", "Take the last edit back."),
    _tool(
        "apply_patch",
        "Apply a unified diff to source files.",
        {"patch": _text("The diff.")},
        "patch",
    ),
)


def offered_tools(
    own: Sequence[ToolSpec], names: Sequence[str] | None = None
) -> tuple[ToolDefinition, ...]:
    """The tools of a session: the common ones and the language's, or those of some names.

    Raises:
        ValueError: A name is none of them.
    """
    tools = (*COMMON_TOOLS, *(_tool(spec.name, spec.description) for spec in own))
    if names is None:
        return tools
    by_name = {tool.name: tool for tool in tools}
    unknown = sorted(set(names) - set(by_name))
    if unknown:
        raise ValueError(f"no tool {', '.join(unknown)}; there are {', '.join(by_name)}")
    return tuple(by_name[name] for name in names)


def offered_schemas(own: Sequence[ToolSpec], names: Sequence[str] | None) -> list[dict[str, Any]]:
    """The same as JSON schemas, as rows carry them and models are shown them."""
    return [tool.function_schema() for tool in offered_tools(own, names)]


def checked_call(
    tools: Sequence[ToolDefinition], call: ToolCall
) -> tuple[ToolDefinition, dict[str, Any]]:
    """The tool and the arguments of a call that is valid.

    Raises:
        Refused: The tool is unknown (`unknown_tool`), or its arguments are incomplete, of another
            type or not among those it takes (`bad_arguments`).
    """
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        known = ", ".join(tool.name for tool in tools)
        raise Refused(f"there is no tool {call.name}. Tools: {known}.", "unknown_tool")
    try:
        check_call(call, tools, "call")
    except MalformedCall as error:
        raise Refused(str(error).removeprefix("call: "), "bad_arguments") from error
    return tool, dict(call.arguments)
