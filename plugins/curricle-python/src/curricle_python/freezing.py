"""What a candidate has to leave as it was: names, signatures, decorators, bases of classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


def freeze(pristine: str, candidate: str) -> list[str]:
    """What the pristine text defines and the candidate has not, or has with another signature."""
    after = _definitions(candidate)
    if after is None:
        return []  # the scan says that it is not Python
    before = _definitions(pristine) or {}
    changed = []
    for name, interface in before.items():
        if name not in after:
            changed.append(f"{name} is gone")
        elif after[name] != interface:
            changed.append(f"{name} has another signature")
    return changed


def changed_functions(pristine: str, candidate: str) -> list[str] | None:
    """The functions whose bodies alone differ; `None` when anything beside them does."""
    before, after = _parts(pristine), _parts(candidate)
    if before is None or after is None or before[0] != after[0]:
        return None
    # Equal skeletons have the same functions in the same order.
    return [
        name for (name, body), (_, other) in zip(before[1], after[1], strict=True) if body != other
    ]


@lru_cache(maxsize=32)
def _parts(text: str) -> tuple[str, list[tuple[str, str]]] | None:
    """A file without its functions' bodies, and those bodies by qualified name, in order."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    bodies: list[tuple[str, str]] = []
    for name, node in _walk(tree, ""):
        if isinstance(node, _Function):
            bodies.append((name, "\n".join(ast.dump(statement) for statement in node.body)))
            node.body = []
    return ast.dump(tree), bodies


def _walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    """Definitions outside of functions; those within a function belong to it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition):
            name = f"{prefix}{child.name}"
            yield name, child
            if isinstance(child, ast.ClassDef):
                yield from _walk(child, f"{name}.")
        elif not isinstance(child, ast.expr):
            yield from _walk(child, prefix)


@lru_cache(maxsize=32)
def _definitions(text: str) -> dict[str, str] | None:
    """Each definition's interface as text; of several with one name, the last counts."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = {name: _interface(node) for name, node in _walk(tree, "")}
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Name) and target.id not in found:
                found[target.id] = "a name"
    return found


def _interface(node: _Definition) -> str:
    decorators = [ast.dump(decorator) for decorator in node.decorator_list]
    if isinstance(node, ast.ClassDef):
        bases = [ast.dump(base) for base in (*node.bases, *node.keywords)]
        return f"class {bases} {decorators}"
    returns = "" if node.returns is None else ast.dump(node.returns)
    return f"{type(node).__name__} {ast.dump(node.args)} {returns} {decorators}"
