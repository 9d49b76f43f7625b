"""Operator mutation over syntax trees: one engine, a table of operators per language.

An operator is a tree-sitter query that captures the node to change as `@target`, and what may
stand there instead. Nothing in this module knows a language: the grammar, the operators and the
test for "still a program, and another one" all come with the table. Mutants are made one at a
time and checked as they are asked for, because checking costs far more than finding.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from tree_sitter import Language, Node, Parser, Query, QueryCursor

from curricle.errors import DataError


@dataclass(frozen=True)
class Edit:
    """A replacement for the bytes from `start_byte` up to `end_byte` of a source."""

    start_byte: int
    end_byte: int
    replacement: str


@dataclass(frozen=True)
class Site:
    """A place that an operator's query matched."""

    source: bytes
    captures: Mapping[str, Sequence[Node]]

    def node(self, name: str = "target") -> Node:
        """The first node captured under `name`."""
        return self.captures[name][0]

    def text(self, node: Node) -> str:
        """The source text of a node."""
        return self.source[node.start_byte : node.end_byte].decode("utf-8")

    def replace(self, node: Node, replacement: str) -> Edit:
        """The edit that puts `replacement` where `node` stands."""
        return Edit(node.start_byte, node.end_byte, replacement)


Replacements: TypeAlias = Mapping[str, Sequence[str]] | Callable[[Site], Iterable[Edit]]


@dataclass(frozen=True)
class Operator:
    """One way to break a program.

    Attributes:
        name: What it is called in reports and in balanced samples.
        query: A tree-sitter query; the node to change is captured as `@target`.
        replacements: Either the texts that may replace the target's text, or a function from the
            matched site to edits, for what a table of texts cannot say.
    """

    name: str
    query: str
    replacements: Replacements


@dataclass(frozen=True)
class OperatorTable:
    """The operators of one language.

    Attributes:
        language: The language's name, such as `"python"`.
        grammar: Gives the tree-sitter grammar, such as `tree_sitter_python.language`.
        operators: In order of preference: of two that make the same edit, the first counts.
        is_mutant: `is_mutant(original, mutated)` says whether the mutated source is still a
            program, and not the same program.
        scopes: A query that captures what has a name: a function as `@function`, what holds
            functions (a class, an `impl`) as `@container`, its name as `@name`.
        documentation: A query that captures text which is no part of the program, comments apart,
            as `@documentation`.
    """

    language: str
    grammar: Callable[[], object]
    operators: tuple[Operator, ...]
    is_mutant: Callable[[str, str], bool]
    scopes: str = ""
    documentation: str = ""


@dataclass(frozen=True)
class Mutant:
    """One small change to a source: `original` at the byte span becomes `replacement`.

    `line` is the line of the span's start, counted from 1.
    """

    operator: str
    start_byte: int
    end_byte: int
    original: str
    replacement: str
    line: int


def apply(source: str, mutant: Mutant) -> str:
    """The source with the mutant's change made.

    Raises:
        DataError: The source does not hold the mutant's original text at its span.
    """
    encoded = source.encode("utf-8")
    found = encoded[mutant.start_byte : mutant.end_byte]
    if found != mutant.original.encode("utf-8"):
        raise DataError(
            f"line {mutant.line}: expected {mutant.original!r} at bytes {mutant.start_byte}-"
            f"{mutant.end_byte}, found {found.decode('utf-8', 'replace')!r}. The source has "
            "changed since its mutants were made: make them again."
        )
    return (
        encoded[: mutant.start_byte] + mutant.replacement.encode("utf-8")
        + encoded[mutant.end_byte :]
    ).decode("utf-8")  # fmt: skip


def mutants(source: str, table: OperatorTable) -> Iterator[Mutant]:
    """Every mutant of a source, in source order, each checked by the table's `is_mutant`."""
    for mutant in proposals(source, table):
        if table.is_mutant(source, apply(source, mutant)):
            yield mutant


def sample(
    source: str,
    table: OperatorTable,
    seed: int,
    per_operator: int = 1,
    limit: int | None = None,
) -> tuple[Mutant, ...]:
    """Some mutants of a source, spread over the operators, in source order.

    The choice depends on the seed, the language and the source alone.

    Args:
        source: The program to change.
        table: The operators of its language.
        seed: Another seed draws another sample.
        per_operator: At most so many mutants of each operator.
        limit: At most so many altogether; operators take turns until it is reached.
    """
    draw = random.Random(_stream(seed, table.language, source))
    waiting: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in proposals(source, table):
        waiting[mutant.operator].append(mutant)
    names = sorted(waiting)
    draw.shuffle(names)
    for name in names:
        draw.shuffle(waiting[name])
    chosen: list[Mutant] = []
    for _ in range(per_operator):
        for name in names:
            if limit is not None and len(chosen) >= limit:
                break
            chosen.extend(_next_valid(source, table, waiting[name]))
    return tuple(sorted(chosen, key=_position))


def _next_valid(source: str, table: OperatorTable, waiting: list[Mutant]) -> list[Mutant]:
    """The next of the waiting mutants that is one, as a list of at most one; it is taken off."""
    while waiting:
        mutant = waiting.pop()
        if table.is_mutant(source, apply(source, mutant)):
            return [mutant]
    return []


def proposals(source: str, table: OperatorTable) -> list[Mutant]:
    """What the operators propose, in source order and without repeats, not yet checked."""
    encoded = source.encode("utf-8")
    root = parse(encoded, table)
    proposed: dict[Edit, Mutant] = {}
    for operator in table.operators:
        for captures in matches(root, operator.query, table):
            for edit in _edits(operator.replacements, Site(encoded, captures)):
                if edit not in proposed:
                    proposed[edit] = _mutant(operator.name, edit, encoded)
    return sorted(proposed.values(), key=_position)


def parse(source: bytes, table: OperatorTable) -> Node:
    """The root of a source's syntax tree."""
    return Parser(_language(table.grammar)).parse(source).root_node


def matches(root: Node, query: str, table: OperatorTable) -> Iterator[Mapping[str, Sequence[Node]]]:
    """What a query captures below a node, match by match; nothing when the query is empty."""
    if query:
        for _, captures in QueryCursor(_query(table.grammar, query)).matches(root):
            yield captures


def _edits(replacements: Replacements, site: Site) -> Iterable[Edit]:
    if callable(replacements):
        return replacements(site)
    target = site.node()
    # An operator of two words may be written with any space between them.
    words = " ".join(site.text(target).split())
    return [site.replace(target, text) for text in replacements.get(words, ())]


def _mutant(operator: str, edit: Edit, source: bytes) -> Mutant:
    original = source[edit.start_byte : edit.end_byte].decode("utf-8")
    line = source.count(b"\n", 0, edit.start_byte) + 1
    return Mutant(operator, edit.start_byte, edit.end_byte, original, edit.replacement, line)


def _position(mutant: Mutant) -> tuple[int, int, str, str]:
    return mutant.start_byte, mutant.end_byte, mutant.operator, mutant.replacement


def _stream(seed: int, language: str, source: str) -> str:
    """A seed of text: `random` hashes text with SHA-512, alike on every machine."""
    return f"{seed}:{language}:{hashlib.sha256(source.encode('utf-8')).hexdigest()}"


@cache
def _language(grammar: Callable[[], object]) -> Language:
    return Language(grammar())


@cache
def _query(grammar: Callable[[], object], query: str) -> Query:
    return Query(_language(grammar), query)
