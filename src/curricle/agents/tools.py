"""The tools that an agent may call, as JSON schemas, and the check of a call against them.

There are few, each with as few arguments as it can do with: every argument is a place where a small
model can go wrong. A language adds its own through `LanguageBackend.tools`; those take no argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curricle.agents.refusal import Refused
from curricle.languages.backend import ToolSpec

_TYPES: Mapping[str, type] = {"string": str, "boolean": bool, "integer": int}


@dataclass(frozen=True)
class Tool:
    """A tool as a model is told of it.

    Attributes:
        name: What a call names.
        description: One sentence.
        properties: Argument to its JSON schema.
        required: The arguments that must be there.
    """

    name: str
    description: str
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def schema(self) -> dict[str, Any]:
        """The form that chat templates and endpoints take."""
        parameters = {
            "type": "object",
            "properties": {name: dict(schema) for name, schema in self.properties.items()},
            "required": list(self.required),
            "additionalProperties": False,
        }
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def _text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


COMMON_TOOLS: tuple[Tool, ...] = (
    Tool("run_tests", "Run the failing tests and those nearby."),
    Tool(
        "read_file",
        "Read a source file, or one function of it.",
        {
            "path": _text("The file."),
            "name": _text("A function or class in it, such as Codec.encode."),
            "from_line": {"type": "integer", "description": "Where to start, from 1."},
        },
        ("path",),
    ),
    Tool(
        "search",
        "Find lines in the source files.",
        {
            "pattern": _text("What to look for."),
            "regex": {"type": "boolean", "description": "Whether it is a regular expression."},
        },
        ("pattern",),
    ),
    Tool(
        "edit",
        "Replace old by new; old must be unique.",
        {
            "old": _text("The text that stands there, exactly."),
            "new": _text("The text to put in its place."),
            "path": _text("The file; what was read last if left out."),
        },
        ("old", "new"),
    ),
    Tool(
        "apply_patch",
        "Apply a unified diff to source files.",
        {"patch": _text("The diff.")},
        ("patch",),
    ),
)


def offered_tools(own: Sequence[ToolSpec], names: Sequence[str] | None = None) -> tuple[Tool, ...]:
    """The tools of a session: the common ones and the language's, or those of some names.

    Raises:
        ValueError: A name is none of them.
    """
    tools = (*COMMON_TOOLS, *(Tool(spec.name, spec.description) for spec in own))
    if names is None:
        return tools
    by_name = {tool.name: tool for tool in tools}
    unknown = sorted(set(names) - set(by_name))
    if unknown:
        raise ValueError(f"no tool {', '.join(unknown)}; there are {', '.join(by_name)}")
    return tuple(by_name[name] for name in names)


def checked_call(
    tools: Sequence[Tool], name: object, arguments: object
) -> tuple[Tool, dict[str, Any]]:
    """The tool and the arguments of a call that is valid.

    Raises:
        Refused: The tool is unknown (`unknown_tool`), or its arguments are no object, incomplete,
            of another type or not among those it takes (`bad_arguments`).
    """
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None:
        known = ", ".join(tool.name for tool in tools)
        raise Refused(f"there is no tool {name!r}. Tools: {known}.", "unknown_tool")
    if not isinstance(arguments, Mapping):
        raise Refused(f"{tool.name}: arguments must be a JSON object.", "bad_arguments")
    missing = [key for key in tool.required if key not in arguments]
    if missing:
        raise Refused(f"{tool.name}: missing argument {', '.join(missing)}.", "bad_arguments")
    for key, value in arguments.items():
        if key not in tool.properties:
            takes = ", ".join(tool.properties) or "none"
            raise Refused(f"{tool.name}: no argument {key!r}; takes {takes}.", "bad_arguments")
        wanted = tool.properties[key]["type"]
        if type(value) is not _TYPES[wanted]:
            raise Refused(f"{tool.name}: {key} must be a {wanted}.", "bad_arguments")
    return tool, dict(arguments)
