"""What tools print: short, the decisive part first, and bounded whatever a run produced.

A small model reads a few hundred tokens well and a few thousand badly. So a test run shows one
failing test: its assertion with the expected and the actual value, and the innermost line of the
project's own sources that the traceback names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curricle.agents.outline import Grammar, function_at, silent_lines
from curricle.agents.searching import Hits
from curricle.agents.workspace import Workspace
from curricle.languages.evaluation import Evaluation, TestResult, TestStatus

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")
_MARK = re.compile(r"<\|(\w*)\|>")
"""What would end or fake a turn, such as an `im_end` that a model wrote into a file."""
_PLACE = re.compile(r"(?P<file>[\w./\\-]+\.\w+)(?::|\", line )(?P<line>\d+)")
_ONLY_PLACE = re.compile(r"^\S+:\d+:?$")
_LINE_CHARS = 160
_READ_CHARS = 1 << 16
"""Longer messages are cut before anything looks at them, so that a huge one costs no time."""


@dataclass(frozen=True)
class Place:
    """A line of a project's source that a failure names; `function` is empty at module level."""

    file: str
    line: int
    function: str
    text: str


def clip(text: str, max_chars: int) -> str:
    """A text cut in its middle to at most `max_chars` characters, saying how much is left out.

    The head is twice as long as the tail: what matters is printed first, and a summary last.
    """
    if len(text) <= max_chars:
        return text
    mark = f"\n... {len(text)} characters, cut ...\n"
    room = max(max_chars - len(mark), 0)
    tail = room // 3
    return (text[: room - tail] + mark + (text[-tail:] if tail else ""))[:max_chars]


def plain(text: str) -> str:
    """A text without colours, control characters and the marks of turns, cut if it is huge."""
    return _MARK.sub(r"< |\1|>", _CONTROL.sub("", clip(text, _READ_CHARS)))


def named_place(message: str, workspace: Workspace, grammar: Grammar) -> Place | None:
    """The last line of the project's sources that a failure names: the innermost frame."""
    sources = workspace.sources()
    for match in reversed(list(_PLACE.finditer(plain(message)))):
        named = match["file"].replace("\\", "/")
        file = next((s for s in sources if named == s or named.endswith(f"/{s}")), None)
        if file is None:
            continue
        text = workspace.read(file)
        lines, line = text.split("\n"), int(match["line"])
        if not 1 <= line <= len(lines):
            continue
        function = function_at(text, grammar, line)
        return Place(file, line, function.name if function else "", lines[line - 1].strip())
    return None


def assertion(message: str, max_lines: int) -> list[str]:
    """The first lines of a failure, up to where it says in which file it happened."""
    lines = []
    for line in plain(message).split("\n"):
        if _ONLY_PLACE.match(line):
            break
        if line.strip():
            lines.append(clip(line.strip(), _LINE_CHARS))
    return lines[:max_lines]


def show_tests(
    evaluation: Evaluation,
    failing: Sequence[str],
    workspace: Workspace,
    grammar: Grammar,
    *,
    shown: int = 1,
    message_lines: int = 3,
    suspects: Sequence[str] = (),
) -> str:
    """A test run in a few lines: the tests that were asked for first, then what else broke.

    Args:
        evaluation: What ran.
        failing: The tests of the task, in order.
        workspace: What was run, to quote the line that a failure names.
        grammar: Of its language.
        shown: So many failures are shown.
        message_lines: So many lines of each.
        suspects: Functions that the failing tests reach, most suspicious first.
    """
    broken = [test for test in failing if not _passed(evaluation, test)]
    others = sorted(evaluation.failed - set(failing))
    if not evaluation.complete and not evaluation.failed:
        return _incomplete(evaluation, message_lines)
    if not broken and not others:
        more = len(evaluation.passed) - len(failing)
        return f"PASSED {len(failing)} tests" + (f" and {more} more" if more > 0 else "")
    if not broken:
        head = f"PASSED {len(failing)} tests, but {len(others)} others fail now"
    else:
        head = f"FAILED {len(broken)} of {len(failing)} tests"
    ordered = sorted(broken or others, key=lambda t: _clarity(evaluation, t, workspace, grammar))
    parts = [head]
    for test in ordered[:shown]:
        parts += [test, *_failure(evaluation.tests.get(test), workspace, grammar, message_lines)]
    if suspects:
        parts.append("reached: " + ", ".join(suspects))
    return "\n".join(parts)


def show_findings(evaluation: Evaluation, shown: int = 5) -> str:
    """The complaints of a checker or linter."""
    if evaluation.findings is None:
        return "not measured" if evaluation.complete else _incomplete(evaluation, 3)
    if not evaluation.findings:
        return "clean"
    lines = [
        f"{found.file}:{found.line}: {found.code} {found.message}"[:_LINE_CHARS]
        for found in evaluation.findings[:shown]
    ]
    left = len(evaluation.findings) - len(lines)
    return "\n".join([*lines, f"and {left} more"] if left else lines)


def show_source(
    text: str,
    first: int,
    last: int,
    grammar: Grammar | None,
    *,
    max_lines: int = 60,
    numbered: bool = False,
) -> str:
    """Some lines of a source.

    Args:
        text: The whole file.
        first: First line, counted from 1.
        last: Last line.
        grammar: Leave out the lines that only document; `None` shows every line.
        max_lines: Lines beyond are counted, not shown.
        numbered: Put each line's number before it.
    """
    silent = silent_lines(text, grammar, first, last) if grammar is not None else frozenset()
    lines = text.split("\n")
    numbers = [n for n in range(first, min(last, len(lines)) + 1) if n not in silent]
    shown = [
        f"{n}: {lines[n - 1]}" if numbered else lines[n - 1].rstrip() for n in numbers[:max_lines]
    ]
    left = len(numbers) - max_lines
    if left > 0:
        shown.append(f"... {left} more lines, from line {numbers[max_lines]}")
    return "\n".join(shown)


def show_hits(hits: Hits) -> str:
    """What a search found."""
    if not hits.found:
        return "no line found"
    lines = [f"{hit.file}:{hit.line}: {hit.text}"[:_LINE_CHARS] for hit in hits.found]
    return "\n".join([*lines, "and more"] if hits.more else lines)


def suspicious(
    evaluation: Evaluation, reaching: Mapping[str, Sequence[str]], shown: int = 3
) -> tuple[str, ...]:
    """The functions that failing tests reach and passing ones do not, most suspicious first.

    Ochiai's coefficient over the tests that ran: failed reaching / sqrt(failed x all reaching)
    (Abreu, Zoeteweij, van Gemund, 2006).

    Args:
        evaluation: A test run.
        reaching: Function to the tests that reach it, on the pristine tree.
        shown: So many at most.
    """
    failed, passed = evaluation.failed, evaluation.passed
    scores = {}
    for function, tests in reaching.items():
        hit, missed = len(failed.intersection(tests)), len(passed.intersection(tests))
        if hit:
            scores[function] = hit / (len(failed) * (hit + missed)) ** 0.5
    ordered = sorted(scores, key=lambda function: (-scores[function], function))
    return tuple(ordered[:shown])


def _passed(evaluation: Evaluation, test: str) -> bool:
    result = evaluation.tests.get(test)
    return result is not None and result.status is TestStatus.PASSED


def _clarity(
    evaluation: Evaluation, test: str, workspace: Workspace, grammar: Grammar
) -> tuple[bool, int]:
    """Failures sort by this: those that name a line of the project first, then the shortest."""
    result = evaluation.tests.get(test)
    message = result.message if result else ""
    place = named_place(message, workspace, grammar)
    return place is None, sum(map(len, assertion(message, _READ_CHARS)))


def _failure(
    result: TestResult | None, workspace: Workspace, grammar: Grammar, message_lines: int
) -> list[str]:
    if result is None:
        return ["did not run"]
    shown = assertion(result.message, message_lines)
    quoted = _test_line(result.message, workspace)
    if quoted:
        shown.append(quoted)
    place = named_place(result.message, workspace, grammar)
    if place is not None:
        inside = f" in {place.function}" if place.function else ""
        shown.append(f"at {place.file}:{place.line}{inside}: {place.text}")
    return shown


def _test_line(message: str, workspace: Workspace) -> str:
    """The line of a test that failed, as it stands in the tree; empty when none is named."""
    project = workspace.project
    tests = project.files(project.tests)
    for match in _PLACE.finditer(plain(message)):
        file = match["file"].replace("\\", "/")
        if file in tests and file not in workspace.changes:
            lines, line = project.read(file).split("\n"), int(match["line"])
            if 1 <= line <= len(lines):
                return f"{file}:{line}: {lines[line - 1].strip()}"[:_LINE_CHARS]
    return ""


def _incomplete(evaluation: Evaluation, message_lines: int) -> str:
    if evaluation.limits_hit:
        limits = ", ".join(sorted(evaluation.limits_hit))
        return f"STOPPED after {evaluation.duration_s:.0f} s: limit of {limits}"
    lines = [line for line in plain(evaluation.note).split("\n") if line.strip()]
    return "\n".join(["ERROR the tests did not run", *lines[:message_lines]])
