"""Which function of a source a byte belongs to, and when two functions are the same."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from tree_sitter import Node

from curricle.checkpoints.hashing import hash_value
from curricle.languages.mutation import OperatorTable, matches, parse


@dataclass(frozen=True)
class Function:
    """An outermost function of a source: one within another counts as a part of it.

    Attributes:
        name: Qualified by what holds it, such as `Codec.encode`.
        start_byte: Where it begins.
        end_byte: Where it ends, exclusive.
        lines: How many lines it has.
        digest: Hash of its tokens, without comments, documentation and space.
    """

    name: str
    start_byte: int
    end_byte: int
    lines: int
    digest: str


def functions(source: str, table: OperatorTable) -> tuple[Function, ...]:
    """The outermost functions of a source, in source order."""
    encoded = source.encode("utf-8")
    root = parse(encoded, table)
    containers: list[tuple[int, int, str]] = []
    found: list[tuple[Node, str]] = []
    for captures in matches(root, table.scopes, table):
        name = _text(encoded, captures["name"][0])
        if "container" in captures:
            node = captures["container"][0]
            containers.append((node.start_byte, node.end_byte, name))
        else:
            found.append((captures["function"][0], name))
    found.sort(key=lambda pair: (pair[0].start_byte, -pair[0].end_byte))
    documentation = {
        (node.start_byte, node.end_byte)
        for captures in matches(root, table.documentation, table)
        for node in captures["documentation"]
    }
    outermost: list[Function] = []
    for node, name in found:
        if outermost and node.start_byte < outermost[-1].end_byte:
            continue
        around = [held for start, end, held in sorted(containers)
                  if start <= node.start_byte and node.end_byte <= end]  # fmt: skip
        lines = node.end_point.row - node.start_point.row + 1
        digest = hash_value(_tokens(node, encoded, documentation))
        outermost.append(
            Function(".".join([*around, name]), node.start_byte, node.end_byte, lines, digest)
        )
    return tuple(outermost)


def function_at(found: tuple[Function, ...], start_byte: int, end_byte: int) -> Function | None:
    """The function that holds a span; `None` at module level."""
    index = bisect.bisect_right([function.start_byte for function in found], start_byte) - 1
    if index >= 0 and end_byte <= found[index].end_byte:
        return found[index]
    return None


def _tokens(node: Node, source: bytes, documentation: set[tuple[int, int]]) -> list[str]:
    """The texts of a node's leaves; a stack, because generated code nests deeply."""
    tokens, waiting = [], [node]
    while waiting:
        current = waiting.pop()
        if "comment" in current.type or (current.start_byte, current.end_byte) in documentation:
            continue
        if current.child_count:
            waiting.extend(reversed(current.children))
        else:
            tokens.append(_text(source, current))
    return tokens


def _text(source: bytes, node: Node) -> str:
    return source[node.start_byte : node.end_byte].decode("utf-8")
