from __future__ import annotations

import re

import pytest
import tree_sitter_python

from curricle.agents.rules import (
    RULES,
    Rule,
    best_rule,
    no_op_patch,
    oracle_patch,
    repairs,
    restores,
    rule_patch,
    searched_patch,
)
from curricle.languages.commands import Level
from curricle.languages.tasks import BugTask, Patch
from tests.agents.conftest import BACKEND, Bench

GRAMMAR = tree_sitter_python.language
BY_NAME = {rule.name: rule for rule in RULES}


def first(name: str, body: str, head: str = "def f(self, a, b):") -> str | None:
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    repaired = next(repairs(BY_NAME[name], f"{head}\n{lines}", GRAMMAR, "f"), None)
    if repaired is None:
        return None
    return "\n".join(line[4:] for line in repaired.splitlines()[1:])


@pytest.mark.parametrize(
    ("rule", "broken", "mended"),
    [
        ("drop_not", "if not a:\n    b()", "if a:\n    b()"),
        ("drop_not", "x = a is not b\ny = a not in b", None),
        ("insert_not", "x = 1\nif a:\n    b()", "x = 1\nif not a:\n    b()"),
        ("flip_comparison", "if a < b:\n    return a == b", "if a > b:\n    return a == b"),
        ("flip_equality", "return a < b == 3", "return a < b != 3"),
        ("move_boundary", "return a == b or a <= b", "return a == b or a < b"),
        ("swap_and_or", "return a and b or c", "return a or b or c"),
        ("decrement_integer", "x1 = 3.5 + a[1]", "x1 = 3.5 + a[0]"),
        ("decrement_integer", "return 0", "return 1"),
        ("invert_boolean", "f(x=True)", "f(x=False)"),
        ("swap_plus_minus", "x = -a + b", "x = -a - b"),
        ("swap_times_divide", "return a // b", "return a * b"),
        ("invert_identity", "return a is not None", "return a is None"),
        ("invert_membership", "for x in a:\n    if x in b:", "for x in a:\n    if x not in b:"),
        ("remove_offset", "return a[b + 1:]", "return a[b:]"),
        ("return_value", "total = a\nreturn None", "total = a\nreturn total"),
        ("return_value", "return None", "return a"),
        ("swap_arguments", "return f(a, b)", "return f(b, a)"),
        ("swap_loop_exit", "for x in a:\n    break", "for x in a:\n    continue"),
    ],
)
def test_a_rule_makes_this_repair_first(rule: str, broken: str, mended: str | None) -> None:
    assert first(rule, broken) == mended


def test_strings_comments_and_the_head_are_left_alone() -> None:
    body = '"""not True, 1 + 1"""\n# not True 1 + 1\nx = "not True 1 + 1"'
    head = "def f(a=True, b=1, *, c=not None):"
    for rule in RULES:
        assert first(rule.name, body, head) is None, rule.name


def test_signs_of_other_languages_are_known() -> None:
    def mended(name: str, text: str) -> str | None:
        return next(repairs(BY_NAME[name], text, GRAMMAR), None)

    assert mended("drop_not", "if (!ok) {\n") == "if (ok) {\n"
    assert mended("swap_and_or", "if a && b {\n") == "if a || b {\n"
    assert mended("invert_boolean", "let x = true;\n") == "let x = false;\n"


def test_bytes_before_the_place_do_not_move_it() -> None:
    text = 'name = "Größe"\n\n\ndef f(a):\n    return not a\n'
    assert next(repairs(BY_NAME["drop_not"], text, GRAMMAR, "f")) == text.replace("not a", "a")


class TestBaselines:
    def test_the_oracle_restores_and_the_no_op_does_nothing(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        project = bench.prepared.project
        oracle = oracle_patch(boundary, project)
        assert restores(boundary, project, oracle)
        assert not restores(boundary, project, no_op_patch())
        assert bench.run(oracle.changes, Level.TEST).passed >= boundary.expected

    def test_a_rule_fixes_what_its_slip_broke(self, bench: Bench, boundary: BugTask) -> None:
        patch = rule_patch(BY_NAME["move_boundary"], boundary, bench.prepared.project, BACKEND)
        assert set(patch.changes) == {"intervals.py"}
        patch = rule_patch(BY_NAME["invert_boolean"], boundary, bench.prepared.project, BACKEND)
        assert patch == no_op_patch(), "a rule that finds no place does nothing"

    def test_rules_that_may_run_the_tests_find_the_repair_among_all(self, bench: Bench) -> None:
        project = bench.prepared.project
        task = bench.task("if dash and not last", "if dash or not last", "boolean_swapped")
        patch = searched_patch(task, project, BACKEND, bench.run)
        assert restores(task, project, patch)
        assert searched_patch(task, project, BACKEND, bench.run, tries=0) == no_op_patch()

    def test_the_best_rule_is_chosen_on_training_tasks(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        tasks = [
            bench.task("end < start", "not end < start", "not_inserted"),
            bench.task("if dash and not last", "if dash or not last", "boolean_swapped"),
            bench.task("if not part:", "if not not part:", "not_inserted"),
        ]
        projects = {"intervals": bench.prepared.project}
        choice = best_rule(tasks, projects, BACKEND)
        assert (choice.rule.name, choice.tasks) == ("drop_not", 3)
        assert choice.fixed == choice.scores["drop_not"] >= 1
        assert choice.scores["swap_and_or"] == 1

    def test_execution_also_counts_repairs_that_do_not_restore(
        self, bench: Bench, boundary: BugTask
    ) -> None:
        def fixes(task: BugTask, patch: Patch) -> bool:
            changes = {**task.broken(bench.prepared.project), **patch.changes}
            return bench.run(changes, Level.TEST).passed >= task.expected

        same = Rule("spaced", BY_NAME["move_boundary"].pattern, lambda m, _: None)
        other = Rule(
            "another_way",
            re.compile(r"if merged and start < merged\[-1\]\[1\]:"),
            lambda m, _: "if merged and not start > merged[-1][1]:",
        )
        projects = {"intervals": bench.prepared.project}
        assert best_rule([boundary], projects, BACKEND, None, (same, other)).fixed == 0
        assert best_rule([boundary], projects, BACKEND, fixes, (same, other)).rule == other
