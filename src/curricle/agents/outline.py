"""Where a source's functions and types are, and which of its lines only document it.

Nothing here knows a language: a definition is a syntax node that has a name and a body, which holds
in every grammar that the backends bring, and comments are what the grammar calls so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from tree_sitter import Language, Node, Parser

Grammar = Callable[[], object]
_LOOKED_AT = 8
"""Sources whose syntax is remembered: a session looks at few files, again and again."""


@dataclass(frozen=True)
class Definition:
    """A function, method or type.

    Attributes:
        name: Qualified, such as `Codec.encode`.
        first_line: Its first line, counted from 1, decorators included.
        last_line: Its last line.
        is_function: Whether it is called, rather than a type or a module.
    """

    name: str
    first_line: int
    last_line: int
    is_function: bool

    def holds(self, line: int) -> bool:
        """Whether a line, counted from 1, lies inside."""
        return self.first_line <= line <= self.last_line


@lru_cache(maxsize=_LOOKED_AT)
def definitions(source: str, grammar: Grammar) -> tuple[Definition, ...]:
    """Every named definition of a source, in source order; of equal names all are listed."""
    return tuple(_definitions(_root(source, grammar), ()))


def function_at(source: str, grammar: Grammar, line: int) -> Definition | None:
    """The innermost function around a line, counted from 1."""
    around = [
        found for found in definitions(source, grammar) if found.is_function and found.holds(line)
    ]
    return around[-1] if around else None


@lru_cache(maxsize=_LOOKED_AT)
def silent_lines(
    source: str, grammar: Grammar, first: int = 1, last: int | None = None
) -> frozenset[int]:
    """Lines that hold nothing but comments, documentation or white space, counted from 1.

    Args:
        source: The whole file.
        grammar: Its language's.
        first: Where to begin; a function's lines are known much sooner than those of its file.
        last: Where to end; `None` is the end of the file.
    """
    end = source.count("\n") + 1
    last = end if last is None else min(last, end)
    spoken = {
        line
        for node in _leaves(_root(source, grammar), first - 1, last - 1)
        for line in range(node.start_point[0] + 1, node.end_point[0] + 2)
    }
    return frozenset(line for line in range(first, last + 1) if line not in spoken)


@lru_cache(maxsize=_LOOKED_AT)
def quoted_spans(source: str, grammar: Grammar) -> tuple[tuple[int, int], ...]:
    """Byte spans of comments and string literals, in source order: text that is no code."""
    spans: list[tuple[int, int]] = []
    waiting = [_root(source, grammar)]
    while waiting:
        node = waiting.pop()
        if _is_comment(node) or (node.is_named and "string" in node.type):
            spans.append((node.start_byte, node.end_byte))
        else:
            waiting.extend(node.children)
    return tuple(sorted(spans))


def _definitions(node: Node, outer: tuple[str, ...]) -> Iterator[Definition]:
    for child in node.named_children:
        name, body = _name_and_body(child)
        if name is None or body is None:
            yield from _definitions(child, outer)
            continue
        whole = _decorated(child)
        qualified = (*outer, name)
        yield Definition(
            ".".join(qualified),
            whole.start_point[0] + 1,
            whole.end_point[0] + 1,
            any(word in child.type for word in ("function", "method", "variable")),
        )
        yield from _definitions(body, qualified)


def _name_and_body(node: Node) -> tuple[str | None, Node | None]:
    body = node.child_by_field_name("body")
    name = node.child_by_field_name("name")
    if name is None and node.type == "impl_item":
        name = node.child_by_field_name("type")
    if body is None and "declarator" in node.type:  # `const f = () => ...`
        value = node.child_by_field_name("value")
        body = value.child_by_field_name("body") if value is not None else None
    text = name.text.decode("utf-8") if name is not None and name.text is not None else None
    return text, body


def _decorated(node: Node) -> Node:
    """The node with its decorators."""
    return node.parent if node.parent is not None and "decorated" in node.parent.type else node


def _leaves(root: Node, first: int, last: int) -> Iterator[Node]:
    """The tokens of some rows that are code, and string literals as a whole."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.start_point[0] > last or node.end_point[0] < first:
            continue
        if _is_comment(node) or _is_documentation(node):
            continue
        if not node.children or (node.is_named and node.type == "string"):
            if node.end_byte > node.start_byte and (node.text or b"").strip():
                yield node
        else:
            waiting.extend(node.children)


def _is_comment(node: Node) -> bool:
    return node.is_named and "comment" in node.type


def _is_documentation(node: Node) -> bool:
    return bool(
        node.type == "expression_statement"
        and node.named_child_count == 1
        and node.named_children[0].type == "string"
    )


@lru_cache(maxsize=_LOOKED_AT)
def _root(source: str, grammar: Grammar) -> Node:
    return Parser(Language(grammar())).parse(source.encode("utf-8")).root_node
