"""A missing tool is named, with what was found, what is wanted and how to install it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
from curricle_python.backend import PythonBackend

from curricle.errors import ToolMissing
from curricle.execution.toolchain import check_toolchain
from curricle.languages import LanguageBackend, Tool

PYTHON = Tool("python", ("{python}", "--version"), "3.11", "https://python.org")


def needing(*tools: Tool) -> LanguageBackend:
    class Needing(PythonBackend):
        toolchain: Sequence[Tool] = tools  # type: ignore[misc]

    return Needing()


def saying(text: str, wanted: str = "1.2", status: int = 0, optional: str = "") -> Tool:
    program = f"import sys; print({text!r}); sys.exit({status})"
    return Tool("tool", ("{python}", "-c", program), wanted, "install tool", optional)


def test_the_tools_of_python_are_here() -> None:
    found = check_toolchain(PythonBackend())
    assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"pytest", "mypy", "ruff"} <= set(found.versions)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", "1.26.8"),
        ("golangci-lint has version v2.5.0 built with go1.26.8", "2.5.0"),
        ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95.0"),
        ("mypy 2.4.1 (compiled: yes)", "2.4.1"),
        ("v20.20.2", "20.20.2"),
        ("h264enc, release 2.10", "2.10"),
        ("clippy 7", "7"),
    ],
)
def test_versions_are_read_as_tools_print_them(text: str, version: str) -> None:
    assert check_toolchain(needing(saying(text))).versions == {"tool": version}


@pytest.mark.parametrize(
    ("found", "wanted", "good"),
    [
        ("1.10", "1.9", True),
        ("1.9", "1.10", False),
        ("1.18.2", "1.18", True),
        ("1.18", "1.18.2", False),
        ("2", "1.9", True),
        ("0.9", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(found: str, wanted: str, good: bool) -> None:
    backend = needing(saying(f"tool {found}", wanted))
    if good:
        assert check_toolchain(backend).versions == {"tool": found}
    else:
        with pytest.raises(ToolMissing, match=f"tool {wanted} or newer: found {found}"):
            check_toolchain(backend)


def test_all_that_is_missing_is_said_at_once() -> None:
    absent = Tool("cargo", ("no-such-cargo", "--version"), "1.88", "rustup update")
    backend = needing(
        PYTHON, absent, saying("tool 1.1"), saying("no such thing", status=1), saying("hello")
    )
    with pytest.raises(ToolMissing) as raised:
        check_toolchain(backend)
    first, *lines = str(raised.value).splitlines()
    assert first == "The language python needs:"
    assert [line.strip() for line in lines[:2]] == [
        "cargo 1.88 or newer: there is no no-such-cargo on PATH. Install it: rustup update",
        "tool 1.2 or newer: found 1.1. Install it: install tool",
    ]
    assert "fails (no such thing)" in lines[2] and "names no version" in lines[3]
    assert len(lines) == 4


def test_what_an_optional_tool_measures_is_not_measured() -> None:
    found = check_toolchain(needing(PYTHON, saying("tool 1.1", optional="lint_clean_rate")))
    assert set(found.versions) == {"python"}
    assert found.not_measured == {
        "lint_clean_rate": "tool 1.2 or newer: found 1.1. Install it: install tool"
    }
