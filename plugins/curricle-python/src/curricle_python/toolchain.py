"""Where Python, pytest, mypy and ruff are, and which folders of them a run must see.

Only the packages that the tools need are shown to a run, one by one: not the environment that
curricle itself lives in, with everything else that is installed there.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import sysconfig
from functools import cache
from pathlib import Path

from curricle.languages import Tool

SITE = sysconfig.get_path("purelib")
INSIDE = str(Path(__file__).parent / "inside")
PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
"""The interpreter itself, not an environment's link to it: a run has no environment."""
RUFF = str(Path(sysconfig.get_path("scripts")) / "ruff")

TOOLS = ("pytest", "hypothesis", "mypy")
TOOLCHAIN = (
    Tool("python", ("{python}", "--version"), "3.11", "https://www.python.org/downloads/"),
    Tool("pytest", ("{python}", "-m", "pytest", "--version"), "8.4", "pip install pytest"),
    Tool(
        "hypothesis",
        ("{python}", "-c", "import hypothesis; print(hypothesis.__version__)"),
        "6.140",
        "pip install hypothesis",
        optional="comparison with the original function",
    ),
    Tool(
        "mypy",
        ("{python}", "-m", "mypy", "--version"),
        "1.18",
        "pip install mypy",
        optional="mypy_clean_rate",
    ),
    Tool(
        "ruff",
        ("{python}", "-m", "ruff", "--version"),
        "0.14",
        "pip install ruff",
        optional="ruff_clean_rate",
    ),
    Tool(
        "mutmut",
        ("{python}", "-m", "mutmut", "--version"),
        "3.8",
        "pip install mutmut",
        optional="mutants of mutmut",
    ),
)


@cache
def folders() -> tuple[str, ...]:
    """What a run sees read-only: the interpreter's own files, and each package of the tools."""
    wanted = {INSIDE, *_packages(TOOLS)}
    base = os.path.realpath(sys.base_prefix)
    if not base.startswith("/usr/"):
        wanted.add(base)
    if Path(RUFF).exists():
        wanted.add(RUFF)
    return tuple(sorted(wanted))


@cache
def packages_of(name: str) -> tuple[str, ...]:
    """The packages that one more tool needs."""
    return tuple(sorted(_packages((name,))))


def _packages(names: tuple[str, ...]) -> set[str]:
    """The top-level files and folders of some distributions and of all that they require."""
    found: set[str] = set()
    waiting, seen = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # optional, or required on other systems only
        for file in distribution.files or ():
            if not file.parts[0].startswith(("..", "__pycache__")) and file.suffix != ".pth":
                found.add(os.path.join(str(distribution.locate_file("")), file.parts[0]))
        for requirement in distribution.requires or ():
            if "extra ==" not in requirement:
                waiting.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    return {path for path in found if os.path.exists(path)}
