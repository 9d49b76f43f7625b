"""Mutants of a whole project: drawn evenly over operators and functions, each sort of bug once.

An engine proposes; `select` draws. The draw takes operators in turn, and of each operator the
functions in turn, so that neither a large function nor a frequent operator fills the sample. It
depends on the seed and on the sources alone.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from curricle.languages.mutation import Mutant, OperatorTable, apply, proposals
from curricle.languages.project import Project
from curricle.languages.scopes import Function, function_at, functions
from curricle.languages.tasks import ProjectMutant

BUILTIN = "builtin"


@dataclass(frozen=True)
class Quota:
    """How many mutants are drawn from a project, and how they are spread.

    Attributes:
        limit: Mutants of a project.
        per_function: Mutants of one function.
        per_operator: Mutants of one operator.
        per_function_operator: Mutants of one operator in one function.
        max_function_lines: Longer functions are left out.
        seed: Another seed draws another sample.
    """

    limit: int
    per_function: int
    per_operator: int
    per_function_operator: int = 1
    max_function_lines: int = 60
    seed: int = 0


@dataclass
class Seen:
    """Which function owns each sort of bug, over all projects of a run.

    A vendored copy of a function has the same tokens: with the same operator it would be the same
    task under another name, and might stand on both sides of a split.
    """

    owners: dict[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)

    def admits(self, digest: str, operator: str, owner: tuple[str, str, str]) -> bool:
        """Whether this sort of bug is new, or already belongs to this owner."""
        return self.owners.setdefault((digest, operator), owner) == owner


@dataclass(frozen=True)
class Selection:
    """What `select` drew.

    Attributes:
        mutants: In file and source order.
        dropped: How many proposals were left out, by reason.
    """

    mutants: tuple[ProjectMutant, ...]
    dropped: Mapping[str, int]


def builtin_proposals(project: Project, table: OperatorTable) -> list[ProjectMutant]:
    """Every change that the operators propose in a project's sources, not yet checked."""
    found: list[ProjectMutant] = []
    ours = version("curricle")  # reads a file, each time
    for file in project.files(project.sources):
        source = project.read(file)
        named = functions(source, table)
        for mutant in proposals(source, table):
            function = function_at(named, mutant.start_byte, mutant.end_byte)
            name = function.name if function else ""
            found.append(
                ProjectMutant(project.name, project.language, file, name, mutant, BUILTIN, ours)
            )
    return found


def select(
    project: Project,
    table: OperatorTable,
    proposed: Iterable[ProjectMutant],
    quota: Quota,
    *,
    reached: Collection[str] = (),
    seen: Seen | None = None,
) -> Selection:
    """Draw mutants of a project.

    Args:
        project: The project.
        table: The operators of its language; says what is a mutant at all.
        proposed: What an engine proposes.
        quota: How many, and how they are spread.
        reached: `file::function` of what tests reach; empty when nobody knows, and then every
            function counts.
        seen: Sorts of bugs of the projects before; this project's are added.
    """
    seen = Seen() if seen is None else seen
    sources = {file: project.read(file) for file in project.files(project.sources)}
    named = {
        (file, function.name): function
        for file, source in sources.items()
        for function in functions(source, table)
    }
    dropped: Counter[str] = Counter()
    waiting: dict[str, list[ProjectMutant]] = defaultdict(list)
    for mutant in proposed:
        function = named.get((mutant.file, mutant.function))
        reason = _unfit(mutant, function, reached, quota)
        if reason:
            dropped[reason] += 1
        else:
            waiting[mutant.mutant.operator].append(mutant)
    draw = random.Random(f"{quota.seed}:{project.language}:{project.digest}")
    names = sorted(waiting)
    draw.shuffle(names)
    queues = {name: _functions_in_turn(waiting[name], draw) for name in names}
    taken = _Taken(quota, seen, named, dropped)

    def is_mutant(mutant: ProjectMutant) -> bool:
        return _is_mutant(mutant.mutant, sources[mutant.file], named[mutant.file, mutant.function],
                          table.is_mutant)  # fmt: skip

    chosen: list[ProjectMutant] = []
    while len(chosen) < quota.limit and any(queues.values()):
        for name in names:
            mutant_or_none = taken.next(queues[name], is_mutant)
            if mutant_or_none is not None and len(chosen) < quota.limit:
                chosen.append(mutant_or_none)
    dropped["over the limit"] += sum(map(len, queues.values()))
    chosen.sort(key=lambda mutant: (mutant.file, mutant.mutant.start_byte, mutant.id))
    return Selection(tuple(chosen), {name: count for name, count in sorted(dropped.items())
                                     if count})  # fmt: skip


class _Taken:
    """What was drawn so far, against the quota."""

    def __init__(
        self,
        quota: Quota,
        seen: Seen,
        named: Mapping[tuple[str, str], Function],
        dropped: Counter[str],
    ) -> None:
        self._quota, self._seen, self._named, self._dropped = quota, seen, named, dropped
        self._functions: Counter[tuple[str, str]] = Counter()
        self._operators: Counter[str] = Counter()
        self._both: Counter[tuple[str, str, str]] = Counter()

    def next(
        self, queue: list[ProjectMutant], is_mutant: Callable[[ProjectMutant], bool]
    ) -> ProjectMutant | None:
        """The next of a queue that the quota admits and that is a mutant; taken off the queue."""
        while queue:
            mutant = queue.pop()
            reason = self._over(mutant)
            if reason is None and not is_mutant(mutant):
                reason = "no other program"
            if reason is None and not self._is_new(mutant):
                reason = "duplicate"
            if reason is not None:
                self._dropped[reason] += 1
                continue
            operator = mutant.mutant.operator
            self._functions[mutant.file, mutant.function] += 1
            self._operators[operator] += 1
            self._both[mutant.file, mutant.function, operator] += 1
            return mutant
        return None

    def _over(self, mutant: ProjectMutant) -> str | None:
        operator = mutant.mutant.operator
        if self._functions[mutant.file, mutant.function] >= self._quota.per_function:
            return "over the function's cap"
        if self._operators[operator] >= self._quota.per_operator:
            return "over the operator's cap"
        both = (mutant.file, mutant.function, operator)
        if self._both[both] >= self._quota.per_function_operator:
            return "over the cap of one operator in one function"
        return None

    def _is_new(self, mutant: ProjectMutant) -> bool:
        digest = self._named[mutant.file, mutant.function].digest
        owner = (mutant.project, mutant.file, mutant.function)
        return self._seen.admits(digest, mutant.mutant.operator, owner)


def _unfit(
    mutant: ProjectMutant, function: Function | None, reached: Collection[str], quota: Quota
) -> str | None:
    if function is None:
        return "outside of functions"
    if function.lines > quota.max_function_lines:
        return "function too long"
    if reached and f"{mutant.file}::{mutant.function}" not in reached:
        return "not reached by tests"
    return None


def _functions_in_turn(found: list[ProjectMutant], draw: random.Random) -> list[ProjectMutant]:
    """Shuffled so that, popped from its end, every function comes once before any comes twice."""
    found = sorted(found, key=lambda mutant: mutant.id)
    draw.shuffle(found)
    turns: Counter[tuple[str, str]] = Counter()
    ordered: list[tuple[int, int, ProjectMutant]] = []
    for index, mutant in enumerate(found):
        key = (mutant.file, mutant.function)
        ordered.append((turns[key], index, mutant))
        turns[key] += 1
    ordered.sort(key=lambda entry: entry[:2], reverse=True)
    return [mutant for _, _, mutant in ordered]


def _is_mutant(
    mutant: Mutant, source: str, function: Function, check: Callable[[str, str], bool]
) -> bool:
    """Whether the function, taken by itself, becomes another program.

    A function alone is parsed a hundred times faster than a file of a thousand lines.
    """
    encoded = source.encode("utf-8")
    line_start = encoded.rfind(b"\n", 0, function.start_byte) + 1
    start = function.start_byte
    if encoded[line_start:start].strip() == b"":
        start = line_start  # its indentation belongs to it
    original = encoded[start : function.end_byte]
    if not (start <= mutant.start_byte and mutant.end_byte <= function.end_byte):
        return check(source, apply(source, mutant))
    mutated = (
        original[: mutant.start_byte - start] + mutant.replacement.encode("utf-8")
        + original[mutant.end_byte - start :]
    )  # fmt: skip
    return check(_dedented(original), _dedented(mutated))


def _dedented(text: bytes) -> str:
    """A block as a program of its own: its first line's indentation taken from every line."""
    lines = text.decode("utf-8").split("\n")
    indentation = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    return "\n".join(line.removeprefix(indentation) for line in lines) + "\n"
