"""Questions about real sources that can be checked: where, what, which line is odd, change this.

They teach the tools before there is a bug to fix, and finding the odd line, which is what small
models fail at. A question about a broken line may come from a mutant that nobody ran: then its
trajectory is not `verified`, and no evaluation may use it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from curricle.agents.editing import Scope
from curricle.agents.observations import show_source
from curricle.agents.outline import Definition, definitions, silent_lines
from curricle.agents.quoting import Quote, edit_arguments, quote_change
from curricle.agents.records import SessionRecord
from curricle.checkpoints.hashing import hash_value
from curricle.config.agents import QuestionParameters
from curricle.languages.backend import LanguageBackend
from curricle.languages.mutation import apply, proposals
from curricle.languages.project import Changes, Project
from curricle.languages.tasks import BugTask, ProjectMutant

_ID_DIGITS = 16
Candidate = TypeVar("Candidate")
NO_LINE = "None."
"""The answer when no line is odd."""


class QuestionKind(StrEnum):
    """What is asked."""

    DEFINED = "defined"
    """Where something is defined; answered by `search`."""
    LAST_LINE = "last_line"
    """How a function ends; answered by `read_file`."""
    REPLACE = "replace"
    """Put one line in another's place; done by `edit`."""
    FAILING = "failing"
    """Which test fails; answered by `run_tests`."""
    LOCALISE = "localise"
    """Which line of a function is wrong, if any."""
    MEND = "mend"
    """A function is wrong: find the line and restore it, without tests."""
    SPOT = "spot"
    """A function is shown: write each wrong line, what is wrong with it, and the right one. It
    takes no tool, and slips share a function, so there is more to find in the same tokens."""


# The file before the name in it, as a call of `read_file` has them: a small model copies in order.
_REQUESTS = {
    QuestionKind.DEFINED: (
        "Where is {name} defined? Answer with file:line.",
        "Find the definition of {name} and answer with file:line.",
    ),
    QuestionKind.LAST_LINE: (
        "What is the last line of {file}, {name}?",
        "Read {file}, {name} and quote its last line.",
    ),
    QuestionKind.REPLACE: (
        "In {file}, {name}, replace\n{old}\nby\n{new}",
        "Change a line of {file}, {name}: it reads\n{old}\nand should read\n{new}",
    ),
    QuestionKind.FAILING: (
        "Which test of {project} fails?",
        "Run the tests of {project} and name one that fails.",
    ),
    QuestionKind.LOCALISE: (
        "Which line of {file}, {name} is wrong, if any?",
        "Is a line of {file}, {name} wrong? Quote it.",
    ),
    QuestionKind.MEND: (
        "A line of {file}, {name} is wrong. Fix it.",
        "There is a slip in {file}, {name}. Find the line and fix it.",
    ),
    QuestionKind.SPOT: ("{shown}",),
}


@dataclass(frozen=True)
class Question:
    """Something to be found or done, with its only right answer.

    Attributes:
        kind: What is asked.
        project: The project's name.
        language: The backend's name.
        request: What the user says.
        file: Where the answer is.
        name: The qualified function or type.
        operator: What broke the function; empty when nothing did.
        start: Laid over the tree beforehand: the broken file.
        answer: What the conclusion must quote; empty when something is to be done.
        result: The file's text after what is to be done; empty when something is to be found.
        failing: The failing tests, where there are any to run.
        passing: Tests that pass, to run beside them.
    """

    kind: QuestionKind
    project: str
    language: str
    request: str
    file: str
    name: str
    operator: str = ""
    start: Changes = field(default_factory=dict)
    answer: str = ""
    result: str = ""
    failing: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Hash of what is asked, and of the tree that it is asked of."""
        asked = [self.kind, self.project, self.request, self.answer, self.result, dict(self.start)]
        return hash_value(asked)[:_ID_DIGITS]

    def is_answered(self, record: SessionRecord) -> bool:
        """Whether a finished session gave the right answer, and changed nothing else."""
        if self.kind is QuestionKind.SPOT:
            return record.answer == self.answer and not record.patch.changes
        if self.result:
            return dict(record.patch.changes) == {self.file: self.result}
        said = [_bare(line) for line in record.answer.splitlines()]
        accepted = self.failing if self.kind is QuestionKind.FAILING else (self.answer,)
        found = any(_bare(answer) in said for answer in accepted)
        return found and not record.patch.changes


def library_questions(
    project: Project,
    backend: LanguageBackend,
    mutants: Sequence[ProjectMutant],
    *,
    seed: int,
    parameters: QuestionParameters | None = None,
) -> list[Question]:
    """Questions about a tree of sources that nothing is run of.

    Args:
        project: The sources; it needs no tests.
        backend: Its language.
        mutants: Slips in its functions. The first of them, as many as a kind may have, are for the
            questions about odd lines; each also gives the same question about the function as it
            is, where no line is odd. The others are to be mended.
        seed: Draws functions and wording.
        parameters: How many, and of which functions.
    """
    parameters = parameters or QuestionParameters()
    draw = random.Random(f"{seed}:{project.digest}:questions")
    asker = _Asker(project, backend, parameters, draw)
    found = [*asker.defined(), *asker.last_lines(), *asker.replacements()]
    chosen = list(mutants)
    draw.shuffle(chosen)
    asked = [*found, *asker.about_mutants(chosen)]
    return list({question.id: question for question in asked}.values())


def task_questions(
    project: Project,
    backend: LanguageBackend,
    tasks: Sequence[BugTask],
    *,
    seed: int,
    parameters: QuestionParameters | None = None,
) -> list[Question]:
    """Questions about proven bugs: which test fails, and which line is wrong, with tests to run."""
    parameters = parameters or QuestionParameters()
    draw = random.Random(f"{seed}:{project.digest}:tasks")
    asker = _Asker(project, backend, parameters, draw)
    chosen = sorted(tasks, key=lambda task: task.id)
    draw.shuffle(chosen)
    found: list[Question] = []
    for task in chosen[: parameters.per_kind]:
        found.append(asker.failing(task))
        localise = asker.localise(task.mutant)
        if localise is not None:
            runs = draw.random() < parameters.run_share
            found.append(_with_tests(localise, task) if runs else localise)
    return found


def broken_line(project: Project, mutant: ProjectMutant) -> str:
    """The wrong line as it stands; empty when a line is missing instead, or several are wrong."""
    original = project.read(mutant.file).split("\n")
    broken = apply("\n".join(original), mutant.mutant).split("\n")
    if len(original) != len(broken):
        return ""
    different = [
        line for line, other in zip(broken, original, strict=True) if line != other
    ]  # fmt: skip
    return different[0].strip() if len(different) == 1 else ""


class _Asker:
    """Draws and words questions about one project."""

    def __init__(
        self,
        project: Project,
        backend: LanguageBackend,
        parameters: QuestionParameters,
        draw: random.Random,
    ) -> None:
        self._project, self._backend = project, backend
        self._parameters, self._draw = parameters, draw
        self._grammar = backend.operators.grammar

    def defined(self) -> list[Question]:
        """Names that are defined once in the whole project."""
        known: dict[str, list[tuple[str, Definition]]] = {}
        for file in self._project.files(self._project.sources):
            for found in definitions(self._project.read(file), self._grammar):
                known.setdefault(found.name, []).append((file, found))
        unique = sorted(name for name, places in known.items() if len(places) == 1)
        asked = []
        for name in self._drawn(unique):
            ((file, found),) = known[name]
            line = _named_line(self._project.read(file), found)
            if line:
                asked.append(self._ask(QuestionKind.DEFINED, file, name, answer=f"{file}:{line}"))
        return asked

    def last_lines(self) -> list[Question]:
        """How some functions end."""
        asked = []
        for file, found in self._drawn(self._functions()):
            shown = self._shown(file, found)
            answer = shown[-1][1].strip() if shown else ""
            if answer:
                asked.append(self._ask(QuestionKind.LAST_LINE, file, found.name, answer=answer))
        return asked

    def replacements(self) -> list[Question]:
        """A line to change, as an operator would: the request says how."""
        asked: list[Question] = []
        for file, found in self._drawn(self._functions()):
            text = self._project.read(file)
            changes = [
                mutant
                for mutant in proposals(text, self._backend.operators)
                if found.holds(mutant.line) and "\n" not in mutant.original + mutant.replacement
            ]
            if not changes:
                continue
            result = apply(text, self._draw.choice(changes))
            old, new = _different_line(text, result)
            if old and new:
                asked.append(self._ask(QuestionKind.REPLACE, file, found.name, result=result,
                                       old=old, new=new))  # fmt: skip
        return asked

    def about_mutants(self, mutants: Sequence[ProjectMutant]) -> list[Question]:
        """Which line is wrong, with the same function as it was; and mending it."""
        others = mutants[self._parameters.per_kind :]
        spotted = round(self._parameters.spot_share * len(others))
        asked = [self._mend(mutant) for mutant in others[spotted:]]
        for slips in _by_function(others[:spotted], self._parameters.spot_slips):
            spot = self._spot(slips) or self._spot(slips[:1])
            asked += [spot] if spot else []
        for mutant in mutants[: self._parameters.per_kind]:
            localise = self.localise(mutant)
            if localise is not None:
                asked += [localise, self._ask(QuestionKind.LOCALISE, mutant.file, mutant.function,
                                              answer=NO_LINE)]  # fmt: skip
        return asked

    def localise(self, mutant: ProjectMutant) -> Question | None:
        """Which line is wrong; `None` when it is not one line."""
        line = broken_line(self._project, mutant)
        if not line:
            return None
        return self._ask(QuestionKind.LOCALISE, mutant.file, mutant.function, mutant, answer=line)

    def failing(self, task: BugTask) -> Question:
        """Which test fails."""
        question = self._ask(QuestionKind.FAILING, task.mutant.file, task.mutant.function,
                             task.mutant)  # fmt: skip
        return _with_tests(question, task)

    def _mend(self, mutant: ProjectMutant) -> Question:
        result = self._project.read(mutant.file)
        return self._ask(QuestionKind.MEND, mutant.file, mutant.function, mutant, result=result)

    def _spot(self, slips: Sequence[ProjectMutant]) -> Question | None:
        """Show a wrong function as `read_file` would; the answer reads as its edits do.

        `None` when the slips cannot stand in it together, or cannot be told apart.
        """
        file, function = slips[0].file, slips[0].function
        original = self._project.read(file)
        broken = _apply_all(original, slips)
        if broken is None:
            return None
        if len(slips) > 1 and not self._backend.operators.is_mutant(original, broken):
            return None  # each alone is a mutant
        found = [d for d in definitions(original, self._grammar) if d.name == function]
        if not found or not all(found[-1].holds(slip.mutant.line) for slip in slips):
            return None
        # Slips change a function within its lines, and the file's syntax is known as it was.
        added = broken.count("\n") - original.count("\n")
        first, last = found[-1].first_line, found[-1].last_line + added
        scope = Scope(first, last, silent_lines(broken, self._grammar, first, last))
        quotes: list[Quote] = []
        for slip in slips:
            others = _apply_all(original, [other for other in slips if other is not slip])
            quote = None if others is None else quote_change(broken, others, scope)
            if quote is None:
                return None
            quotes.append(quote)
        quotes.sort(key=lambda quote: quote.line)
        answer = "\n".join(_edit_lines(quote, self._parameters.explain) for quote in quotes)
        shown = show_source(broken, first, last, self._grammar)
        question = self._ask(QuestionKind.SPOT, file, function, slips[0],
                             answer=answer, shown=shown)  # fmt: skip
        operators = dict.fromkeys(slip.mutant.operator for slip in slips)
        return replace(question, start={file: broken}, operator="+".join(operators))

    def _ask(
        self,
        kind: QuestionKind,
        file: str,
        name: str,
        mutant: ProjectMutant | None = None,
        answer: str = "",
        result: str = "",
        **words: str,
    ) -> Question:
        wording = self._draw.choice(_REQUESTS[kind])
        request = wording.format(name=name, file=file, project=self._project.name, **words)
        return Question(
            kind, self._project.name, self._project.language, request, file, name,
            mutant.mutant.operator if mutant else "",
            mutant.changes(self._project) if mutant else {}, answer, result,
        )  # fmt: skip

    def _functions(self) -> list[tuple[str, Definition]]:
        return [
            (file, found)
            for file in self._project.files(self._project.sources)
            for found in definitions(self._project.read(file), self._grammar)
            if found.is_function
            and found.last_line - found.first_line < self._parameters.max_function_lines
        ]

    def _shown(self, file: str, found: Definition) -> list[tuple[int, str]]:
        text = self._project.read(file)
        silent = silent_lines(text, self._grammar)
        lines = text.split("\n")
        return [
            (number, lines[number - 1])
            for number in range(found.first_line, found.last_line + 1)
            if number not in silent
        ]

    def _drawn(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        chosen = list(candidates)
        self._draw.shuffle(chosen)
        return chosen[: self._parameters.per_kind]


def _by_function(mutants: Sequence[ProjectMutant], size: int) -> list[list[ProjectMutant]]:
    """Mutants of one function together, at most so many."""
    functions: dict[tuple[str, str], list[ProjectMutant]] = {}
    for mutant in mutants:
        functions.setdefault((mutant.file, mutant.function), []).append(mutant)
    return [
        together[start : start + size]
        for together in functions.values()
        for start in range(0, len(together), size)
    ]


def _apply_all(text: str, slips: Sequence[ProjectMutant]) -> str | None:
    """A text with several slips; `None` when two of them touch the same lines."""
    ordered = sorted((slip.mutant for slip in slips), key=lambda mutant: -mutant.start_byte)
    encoded = text.encode("utf-8")
    for later, earlier in pairwise(ordered):
        if b"\n" not in encoded[earlier.end_byte : later.start_byte]:
            return None
    for mutant in ordered:  # from the end, so that what stands before keeps its place
        text = apply(text, mutant)
    return text


def _edit_lines(quote: Quote, explain: bool) -> str:
    marks = {"old": "-", "why": "why|", "new": "+"}
    return "\n".join(
        f"{marks[name]}{line}"
        for name, text in edit_arguments(quote, explain).items()
        for line in text.split("\n")
    )


def _with_tests(question: Question, task: BugTask) -> Question:
    return replace(question, failing=task.failing, passing=task.passing)


def _named_line(text: str, found: Definition) -> int:
    """The line of a definition that says its name: the first one may be a decorator."""
    last = found.name.rsplit(".", 1)[-1]
    lines = text.split("\n")
    return next(
        (n for n in range(found.first_line, found.last_line + 1) if last in lines[n - 1]), 0
    )


def _different_line(text: str, result: str) -> tuple[str, str]:
    pairs = zip(text.split("\n"), result.split("\n"), strict=False)
    old, new = next(((a, b) for a, b in pairs if a != b), ("", ""))
    return old.strip(), new.strip()


def _bare(text: str) -> str:
    """A line without quotation marks around it, and without the space that says nothing."""
    return " ".join(text.split()).strip("`'\"")
