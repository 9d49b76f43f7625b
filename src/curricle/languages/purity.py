"""Plugins declare and parse; they start no process and know nothing of the core but its contract.

Read from the source, so that a plugin is judged without being imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_MODULES = frozenset({"subprocess", "multiprocessing", "pty"})
_FUNCTIONS = {
    "os": ("system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile"),
    "asyncio": ("create_subprocess",),
    "concurrent.futures": ("ProcessPoolExecutor",),
}
_CONTRACT = "curricle.languages"
_OTHER_CODE = frozenset({"samples", "inside"})


def process_starts(source: Path) -> list[str]:
    """Where the Python files below a folder start a process, one sentence each; should be empty.

    Folders named `samples` hold projects and `inside` what the core runs in the sandbox: neither is
    code of a plugin in our process, and both are left out.
    """
    found = []
    for file, tree in _trees(source):
        for line, name in _uses(tree):
            if _starts_process(name):
                found.append(f"{file}:{line}: {name}: declare a Command, the core runs it")
    return list(dict.fromkeys(found))


def core_imports(source: Path) -> list[str]:
    """Where the Python files below a folder import more of curricle than its contract."""
    found = []
    for file, tree in _trees(source):
        for line, name in _uses(tree):
            if name.partition(".")[0] == "curricle" and not f"{name}.".startswith(f"{_CONTRACT}."):
                found.append(f"{file}:{line}: {name}: plugins import {_CONTRACT} alone")
    return list(dict.fromkeys(found))


def _trees(source: Path) -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(source.rglob("*.py")):
        relative = file.relative_to(source)
        if not _OTHER_CODE.intersection(relative.parts[:-1]):
            yield relative, ast.parse(file.read_text(), str(file))


def _uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each imported module, and each attribute of one, by its full name."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name] = alias.name
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names[alias.asname or alias.name] = full
                yield node.lineno, full
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (module := names.get(_dotted(node.value))):
            yield node.lineno, f"{module}.{node.attr}"


def _starts_process(name: str) -> bool:
    if name.partition(".")[0] in _MODULES:
        return True
    module, _, function = name.rpartition(".")
    return function.startswith(_FUNCTIONS.get(module, ())) and bool(module)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""
