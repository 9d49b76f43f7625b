"""A machine that cannot run a language's code is refused before anything long starts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from curricle_python.backend import PythonBackend

from curricle.errors import SandboxUnavailable, ToolMissing
from curricle.languages import Tool
from curricle.pipeline_registry import register_pipelines
from curricle.planning.execution import check_execution, check_toolchains, executed_languages

ABSENT = Tool("fancy", ("no-such-program", "--version"), "2.0", "pip install fancy")


class Needing(PythonBackend):
    toolchain: Sequence[Tool] = (ABSENT,)  # type: ignore[misc]


class Wishing(PythonBackend):
    toolchain: Sequence[Tool] = (  # type: ignore[misc]
        Tool("fancy", ("no-such-program",), "2.0", "pip install fancy", optional="fancy_rate"),
    )


def test_only_a_run_that_executes_code_asks_for_tools() -> None:
    registry = register_pipelines()
    for name in ("tasks_python", "lang_python", "eval_python", "coding_tui"):
        assert [backend.name for backend in executed_languages(registry[name])] == ["python"]
    gates = registry["lang_python"].only_nodes_with_tags("gate")
    for pipeline in (registry["general"], registry["report"], gates):
        assert executed_languages(pipeline) == []


def test_a_missing_tool_is_named_with_its_version_and_its_installation() -> None:
    with pytest.raises(ToolMissing, match=r"(?s)fancy 2\.0 or newer.*pip install fancy.*Nothing"):
        check_toolchains([PythonBackend(), Needing()])


def test_what_an_optional_tool_would_measure_is_said(caplog: pytest.LogCaptureFixture) -> None:
    check_toolchains([Wishing()])
    assert "fancy_rate: not measured" in caplog.text
    assert "pip install fancy" in caplog.text


def test_a_sandbox_that_is_too_weak_is_refused() -> None:
    strict = {"sandbox": {"backend": "bubblewrap", "min_level": "strong"}}
    with pytest.raises(SandboxUnavailable, match=r"sandbox\.min_level"):
        check_execution(register_pipelines()["tasks_python"], strict)


def test_this_machine_can_run_the_languages_that_are_installed_here() -> None:
    check_execution(register_pipelines()["eval_python"], {})
