"""Repairs without a model: what an agent must beat before anybody calls it one.

A rule undoes one sort of slip at the first place in the function where it could have been made,
without a look at the tests. The best of them is chosen on training tasks and then held against
every model. The patterns read code as text, with strings and comments taken out, so that they serve
languages with words (`and`, `not`) and with signs (`&&`, `!`) alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from curricle.agents.outline import Grammar, definitions, quoted_spans
from curricle.agents.records import Run
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Level
from curricle.languages.project import Project
from curricle.languages.tasks import BugTask, Patch

Fixes: TypeAlias = Callable[[BugTask, Patch], bool | None]
"""Whether a patch fixes a task, by execution; `None` when the machine failed to tell."""

_BYTES = "latin-1"  # one character for each byte, so that positions are those of the source
_HIDDEN = "\0"


@dataclass(frozen=True)
class Rule:
    """A repair.

    Attributes:
        name: What it is called in reports.
        pattern: Where it could apply, in the code of one function, one byte a character.
        rewrite: What the match becomes, given the code before it; `None` leaves this place alone.
    """

    name: str
    pattern: re.Pattern[str]
    rewrite: Callable[[re.Match[str], str], str | None]


@dataclass(frozen=True)
class RuleChoice:
    """The rule that does best on training tasks.

    Attributes:
        rule: The rule.
        fixed: Tasks that it fixes.
        tasks: Of how many.
        scores: Rule's name to the tasks that it fixes.
    """

    rule: Rule
    fixed: int
    tasks: int
    scores: Mapping[str, int]


def _table(**entries: str) -> dict[str, str]:
    return dict(pair.split(":") for pairs in entries.values() for pair in pairs.split())


def _swap(name: str, pattern: str, pairs: str) -> Rule:
    table = _table(pairs=pairs)
    return Rule(name, re.compile(pattern), lambda match, _: table.get(" ".join(match[0].split())))


def _replace(name: str, pattern: str, replacement: str) -> Rule:
    return Rule(name, re.compile(pattern), lambda match, _: match.expand(replacement))


def _membership(match: re.Match[str], _: str) -> str | None:
    if match["loop"]:
        return None
    return "in" if match[0].startswith("not") else "not in"


def _returned_name(match: re.Match[str], before: str) -> str | None:
    """The variable that was assigned last, else the first parameter."""
    assigned = re.findall(r"^[ \t]*(?:let |var |const )?(\w+)(?:: [^=\n]+)? :?[-+*/|&]?= ", before,
                          re.M)  # fmt: skip
    parameters = re.findall(r"[(,] *(?!self\b|cls\b)(\w+)", before.split("\n", 1)[0])
    names = assigned[-1:] or parameters[:1]
    return f"return {names[0]}" if names else None


_COMPARISON = r"(?<= )(?:==|!=|<=|>=|<|>)(?= )"
RULES: tuple[Rule, ...] = (
    _replace("drop_not", r"(?<!is )\bnot (?!in\b)|!(?=[A-Za-z_(])", ""),
    _replace("insert_not", r"\b(if|elif|while) (?!not\b)", r"\1 not "),
    _swap("flip_comparison", _COMPARISON, "==:!= !=:== <:> >:< <=:>= >=:<="),
    _swap("flip_equality", r"(?<= )[!=]=(?= )", "==:!= !=:=="),
    _swap("move_boundary", r"(?<= )[<>]=?(?= )", "<:<= <=:< >:>= >=:>"),
    _swap("swap_and_or", r"\b(?:and|or)\b|&&|\|\|", "and:or or:and &&:|| ||:&&"),
    Rule(
        "decrement_integer",
        re.compile(r"(?<![\w.])\d+(?![\w.])"),
        lambda match, _: str(int(match[0]) - 1) if int(match[0]) else "1",
    ),
    _swap(
        "invert_boolean", r"\b(?:True|False|true|false)\b",
        "True:False False:True true:false false:true",
    ),
    _swap("swap_plus_minus", r"(?<=[\w)\]] )[-+](?==? )", "+:- -:+"),
    _swap("swap_times_divide", r"(?<=[\w)\]] )(?://|\*|/|%)(?==? )", "//:* *:/ /:* %://"),
    Rule(
        "invert_identity",
        re.compile(r"\bis not\b|\bis\b"),
        lambda match, _: "is" if match[0].endswith("not") else "is not",
    ),
    Rule(
        "invert_membership",
        re.compile(r"(?P<loop>\bfor\b[^:\n]*?\bin\b)|\bnot in\b|\bin\b"),
        _membership,
    ),
    _replace("remove_offset", r" [-+] 1(?![\w.])", ""),
    Rule("return_value", re.compile(r"\breturn(?: None| nil| null)?(?=[;\n]|$)"), _returned_name),
    _replace("swap_arguments", r"(?<=\w\()([\w.]+), ([\w.]+)(?=\))", r"\2, \1"),
    _swap("swap_loop_exit", r"\b(?:break|continue)\b", "break:continue continue:break"),
)  # fmt: skip
"""In order of preference: of two that do equally well, the first is chosen."""


def repairs(rule: Rule, text: str, grammar: Grammar, function: str = "") -> Iterator[str]:
    """The texts that a rule makes of a source, place by place within a function.

    Args:
        rule: The rule.
        text: The whole file.
        grammar: Of its language.
        function: Qualified name of the function to mend; empty takes the whole file.
    """
    source = text.encode("utf-8").decode(_BYTES)
    code = _code(source, text, grammar)
    starts = _line_starts(source)
    first, end = 0, len(source)
    for definition in definitions(text, grammar):
        if function and definition.name == function:
            first = starts[definition.first_line - 1]
            end = (*starts, len(source))[definition.last_line]
    body = _body_start(code, first, end) if function else first
    for match in rule.pattern.finditer(code, body, end):
        written = rule.rewrite(match, code[first : match.start()])
        if written is not None and _HIDDEN not in match[0]:
            mended = source[: match.start()] + written + source[match.end() :]
            yield mended.encode(_BYTES).decode("utf-8")


def rule_patch(rule: Rule, task: BugTask, project: Project, backend: LanguageBackend) -> Patch:
    """What a rule does to a task: its first repair, or nothing."""
    mutant = task.mutant
    broken = str(task.broken(project)[mutant.file])
    mended = next(repairs(rule, broken, backend.operators.grammar, mutant.function), None)
    return no_op_patch() if mended is None else Patch({mutant.file: mended})


def searched_patch(
    task: BugTask,
    project: Project,
    backend: LanguageBackend,
    run: Run,
    tries: int = len(RULES),
    rules: Sequence[Rule] = RULES,
) -> Patch:
    """The first rule's repair that passes the visible tests: what an agent with tests must beat.

    Args:
        task: The bug; its held-out tests are not looked at.
        project: Its pristine project.
        backend: Its language.
        run: Executes the visible tests.
        tries: Repairs that are run at most, as many as an agent may test.
        rules: In the order in which they are tried.

    Returns:
        The repair, or nothing when none passes.

    Raises:
        InfrastructureFault: The machine failed; nothing is known of the rules.
    """
    tried: dict[str, Patch] = {}
    for rule in rules:
        patch = rule_patch(rule, task, project, backend)
        if not patch.changes or patch.id in tried or len(tried) == tries:
            continue
        tried[patch.id] = patch
        changes = {**task.broken(project), **patch.changes}
        evaluation = run(changes, Level.TEST, task.failing)
        if evaluation.complete and evaluation.passed >= set(task.failing):
            return patch
    return no_op_patch()


def no_op_patch() -> Patch:
    """Nothing: what an agent gets for doing nothing."""
    return Patch()


def oracle_patch(task: BugTask, project: Project) -> Patch:
    """The original text: what is attainable."""
    return Patch({task.mutant.file: project.read(task.mutant.file)})


def restores(task: BugTask, project: Project, patch: Patch) -> bool:
    """Whether a patch gives back the original text, which the task's tests were proven to pass."""
    return dict(patch.changes) == dict(oracle_patch(task, project).changes)


def best_rule(
    tasks: Sequence[BugTask],
    projects: Mapping[str, Project],
    backend: LanguageBackend,
    fixes: Fixes | None = None,
    rules: Sequence[Rule] = RULES,
) -> RuleChoice:
    """The rule that fixes most of some training tasks.

    Args:
        tasks: Training tasks, never held-out ones.
        projects: Their projects, by name.
        backend: Their language.
        fixes: Executes a patch. Without it a task counts as fixed when its original text is
            restored, which is quick and leaves out other repairs that happen to pass.
        rules: What to choose from.
    """
    results = [
        rule_results(task, projects[task.mutant.project], backend, fixes, rules) for task in tasks
    ]
    return choose_rule(results, rules)


def rule_results(
    task: BugTask,
    project: Project,
    backend: LanguageBackend,
    fixes: Fixes | None = None,
    rules: Sequence[Rule] = RULES,
) -> dict[str, bool]:
    """Rule's name to whether it fixes a task: see `best_rule`."""
    known: dict[str, bool] = {no_op_patch().id: False}
    results = {}
    for rule in rules:
        patch = rule_patch(rule, task, project, backend)
        if patch.id not in known:
            known[patch.id] = restores(task, project, patch) or (
                fixes is not None and fixes(task, patch) is True
            )
        results[rule.name] = known[patch.id]
    return results


def choose_rule(results: Sequence[Mapping[str, bool]], rules: Sequence[Rule] = RULES) -> RuleChoice:
    """The rule that fixes most, of what each fixed of some training tasks."""
    scores = {rule.name: sum(fixed[rule.name] for fixed in results) for rule in rules}
    best = max(rules, key=lambda rule: scores[rule.name])
    return RuleChoice(best, scores[best.name], len(results), scores)


def _code(source: str, text: str, grammar: Grammar) -> str:
    """The source with comments and string literals hidden, every position kept."""
    pieces, at = [], 0
    for start, end in quoted_spans(text, grammar):
        pieces += [source[at:start], re.sub(r"[^\n]", _HIDDEN, source[start:end])]
        at = end
    return "".join([*pieces, source[at:]])


def _line_starts(source: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", source))]


def _body_start(code: str, first: int, end: int) -> int:
    """After a function's head, so that parameters and their types are left alone."""
    opened = re.compile(r"[^\n]*[:{][ \t]*(?:\0*[ \t]*)\n").search(code, first, end)
    return opened.end() if opened else first
