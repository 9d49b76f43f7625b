"""Looks for the programs that a language declares, before anything rests on them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from curricle.errors import ToolMissing
from curricle.languages.backend import LanguageBackend
from curricle.languages.toolchain import Tool

_TIMEOUT_S = 60.0
_VERSION = re.compile(r"\d+(?:\.\d+)+")


@dataclass(frozen=True)
class Toolchain:
    """What is there of a language's tools.

    Attributes:
        versions: Name to the version found, of each tool that can be used.
        not_measured: What cannot be measured, to the reason: the optional tool that is missing.
    """

    versions: Mapping[str, str]
    not_measured: Mapping[str, str] = field(default_factory=dict)


def check_toolchain(backend: LanguageBackend) -> Toolchain:
    """Ask each tool of a language for its version.

    Raises:
        ToolMissing: Tools that the language cannot do without are absent or too old; names them
            all, each with the version found, the version wanted and the command that installs it.
    """
    versions: dict[str, str] = {}
    not_measured: dict[str, str] = {}
    missing = []
    for tool in backend.toolchain:
        version, problem = _look_for(tool)
        if not problem:
            versions[tool.name] = version
        elif tool.optional:
            not_measured[tool.optional] = f"{problem} Install it: {tool.install}"
        else:
            missing.append(f"  {problem} Install it: {tool.install}")
    if missing:
        raise ToolMissing(f"The language {backend.name} needs:\n" + "\n".join(missing))
    return Toolchain(versions, not_measured)


def _look_for(tool: Tool) -> tuple[str, str]:
    """The version of a tool, and what is wrong with it; one of the two is empty."""
    wanted = f"{tool.name} {tool.wanted} or newer" if tool.wanted else tool.name
    argv = [part.replace("{python}", sys.executable) for part in tool.version_argv]
    program = shutil.which(argv[0])
    if program is None:
        return "", f"{wanted}: there is no {argv[0]} on PATH."
    try:
        done = subprocess.run(
            [program, *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_TIMEOUT_S, check=False, text=True, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"{wanted}: {' '.join(argv)} does not run ({error})."
    said = done.stdout.strip()
    if done.returncode != 0:
        last = said.splitlines()[-1] if said else f"status {done.returncode}"
        return "", f"{wanted}: {' '.join(argv)} fails ({last})."
    found = _VERSION.search(said) or re.search(r"\d+", said)
    if found is None:
        return "", f"{wanted}: {' '.join(argv)} names no version."
    if _parts(found.group()) < _parts(tool.wanted):
        return "", f"{wanted}: found {found.group()}."
    return found.group(), ""


def _parts(version: str) -> tuple[int, ...]:
    """A version to compare: `"1.18"` is older than `"1.18.2"`, as nobody asks for less."""
    return tuple(map(int, re.findall(r"\d+", version)))
