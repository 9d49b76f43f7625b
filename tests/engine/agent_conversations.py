"""One conversation for every golden file: thinking, three tools, a detour, quotes, blank lines."""

from __future__ import annotations

from curricle.agents.messages import (
    ToolCall,
    ToolDefinition,
    assistant,
    system,
    tool_result,
    user,
)

TOOLS = (
    ToolDefinition(name="run_tests", description="Run the failing tests."),
    ToolDefinition(
        name="read_file",
        description="Read a source file.",
        parameters={
            "type": "object",
            "properties": {"path": {"type": "string"}, "from_line": {"type": "integer"}},
            "required": ["path"],
        },
    ),
    ToolDefinition(
        name="edit",
        description="Replace old by new.",
        parameters={
            "type": "object",
            "properties": {"old": {"type": "string"}, "new": {"type": "string"}},
            "required": ["old", "new"],
        },
    ),
)

CONVERSATION = (
    system("You work on Python code with tools."),
    user("A test of shapes fails. Find the bug and fix it."),
    assistant("", ToolCall(name="run_tests"), thinking="The failure first."),
    tool_result("run_tests", 'E   assert label(2) == "two"\nE   AssertionError'),
    assistant(
        "I read it.",
        ToolCall(name="read_file", arguments={"path": "src/shapes.py", "from_line": 3}),
    ),
    tool_result("read_file", 'def label(n):\n    """Name a number."""\n    return "tow"\n'),
    assistant("", ToolCall(name="edit", arguments={"old": 'return "tow', "new": ""}), train=False),
    tool_result("edit", "error: old was not found"),
    assistant(
        "",
        ToolCall(
            name="edit",
            arguments={"old": '    return "tow"', "new": '    # r"\\d"\n\n    return "two"'},
        ),
    ),
    tool_result("edit", "ok"),
    assistant('$label now returns "two".', thinking="Done.\n</think>"),
    user("Thanks. Which line was it?"),
    assistant("The third."),
)
