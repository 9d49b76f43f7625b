import ast

import pytest

from curricle.errors import DataError
from curricle.languages.mutation import apply, mutants, sample
from curricle.languages.python_operators import PYTHON_OPERATORS

SOURCE = '''\
"""Größe: text of several bytes before everything that is changed."""


def window(values, size, *, strict=False):
    """Yield every window of the values."""
    if not values or size is None:
        raise ValueError("nothing to do")
    kept: dict[int, int] = {}
    for index in range(size):
        if index > 3 and (strict or size):
            continue
        if values:
            break
        kept[index] = clip(values, size) + 1
    name = "label" if strict else ""
    while strict:
        log(name)
    return values[:size]
'''


def mutants_of(source: str, operator: str) -> list[str]:
    return [
        apply(source, mutant)
        for mutant in mutants(source, PYTHON_OPERATORS)
        if mutant.operator == operator
    ]


def test_every_mutant_compiles_and_is_another_program() -> None:
    found = list(mutants(SOURCE, PYTHON_OPERATORS))
    assert len(found) > 30
    for mutant in found:
        mutated = apply(SOURCE, mutant)
        compile(mutated, "mutant", "exec")
        assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(SOURCE)), mutant


def test_every_operator_finds_its_place() -> None:
    source = (
        SOURCE + "\n\ndef inverted(flag):\n    if flag and not flag.set:\n        return flag\n"
    )
    found = {mutant.operator for mutant in mutants(source, PYTHON_OPERATORS)}
    assert found == {operator.name for operator in PYTHON_OPERATORS.operators}


def test_mutants_come_in_source_order_and_only_once() -> None:
    found = list(mutants(SOURCE, PYTHON_OPERATORS))
    spans = [(mutant.start_byte, mutant.end_byte) for mutant in found]
    assert spans == sorted(spans)
    edits = [(mutant.start_byte, mutant.end_byte, mutant.replacement) for mutant in found]
    assert len(set(edits)) == len(edits)


def test_a_mutant_names_its_line_and_its_original_text() -> None:
    lines = SOURCE.splitlines()
    for mutant in mutants(SOURCE, PYTHON_OPERATORS):
        assert mutant.original.splitlines()[0] in lines[mutant.line - 1]


@pytest.mark.parametrize(
    ("operator", "source", "expected"),
    [
        ("comparison_flipped", "x = a  is  not b\n", ["x = a  is b\n"]),
        ("comparison_flipped", "x = a in b\n", ["x = a not in b\n"]),
        ("boolean_swapped", "x = a and b\n", ["x = a or b\n"]),
        ("not_removed", "x = not a\n", ["x = a\n"]),
        ("not_inserted", "if a:\n    b()\n", ["if not a:\n    b()\n"]),
        ("condition_negated", "if a and b:\n    c()\n", ["if not (a and b):\n    c()\n"]),
        ("arithmetic_changed", "x = a % b\n", ["x = a // b\n"]),
        ("arithmetic_changed", "x = '%s' % b\n", []),
        ("integer_changed", "x = 0, 1\n", ["x = 1, 1\n", "x = 0, 0\n"]),
        ("integer_changed", "x = 41\n", ["x = 42\n"]),
        ("true_false_swapped", "x = True\n", ["x = False\n"]),
        ("return_dropped", "def f(): return 1\n", ["def f(): return None\n"]),
        ("return_dropped", "def f(): return None\n", []),
        ("loop_exit_changed", "while a:\n    break\n", ["while a:\n    continue\n"]),
        ("string_emptied", "x = rb'ab'\n", ["x = rb''\n"]),
        ("string_emptied", "'''Documentation.'''\n", []),
        ("arguments_swapped", "f(a, b)\n", ["f(b, a)\n"]),
        ("arguments_swapped", "f(a, b, c)\n", []),
        ("arguments_swapped", "f(a, b=1)\n", []),
        ("off_by_one", "x = a[n:]\n", ["x = a[n + 1:]\n", "x = a[n - 1:]\n"]),
        ("off_by_one", "range(n)\n", ["range(n + 1)\n", "range(n - 1)\n"]),
        ("off_by_one", "other(n)\n", []),
        ("wrong_variable", "def f(self, a, b): a.b\n", ["def f(self, a, b): b.b\n"]),
        ("wrong_variable", "def f(a, b: int = a):\n    x: a = 1\n", []),
        ("statement_deleted", "if a:\n    b()\n", ["if a:\n    pass\n"]),
        ("statement_deleted", "if a:\n  b()\n  c()\n", ["if a:\n  c()\n", "if a:\n  b()\n"]),
        ("statement_deleted", "if a:\n    b()\n    c()", ["if a:\n    c()", "if a:\n    b()"]),
        ("statement_deleted", "if a: b(); c()\n", ["if a: pass; c()\n", "if a: b(); pass\n"]),
    ],
)  # fmt: skip
def test_an_operator_makes_these_mutants(operator: str, source: str, expected: list[str]) -> None:
    assert mutants_of(source, operator) == expected


def test_a_break_that_may_not_continue_is_no_mutant() -> None:
    assert mutants_of("match a:\n    case 1:\n        break\n", "loop_exit_changed") == []


@pytest.mark.parametrize(
    ("original", "mutated", "expected"),
    [
        ("@cache(1)\ndef f(): ...\n", "@cache(2)\ndef f(): ...\n", True),
        ("a = 1; b = 2\n", "a = 1; b = 3\n", True),
        ("a = 1\rb = 2\rc = 3\r", "a = 1\rb = 2\rc = 4\r", True),
        ("a = '''\n\f\n'''\nb = 1\n", "a = '''\n\f\n'''\nb = 2\n", True),
        ("a = 1\nb = 2\n", "a = 1\n", True),
        ("a = (1)\nb = 2\n", "a = 1\n\nb  = 2\n", False),
        ("a = 1\n", "a = 1 # one\n", False),
        ("a = 1\n", "a = \n", False),
    ],
)
def test_a_mutant_compiles_and_is_another_program(
    original: str, mutated: str, expected: bool
) -> None:
    assert PYTHON_OPERATORS.is_mutant(original, mutated) is expected


def test_a_sample_is_spread_over_the_operators_and_repeats_for_its_seed() -> None:
    chosen = sample(SOURCE, PYTHON_OPERATORS, seed=3, limit=8)
    assert len({mutant.operator for mutant in chosen}) == len(chosen) == 8
    assert chosen == sample(SOURCE, PYTHON_OPERATORS, seed=3, limit=8)
    assert chosen != sample(SOURCE, PYTHON_OPERATORS, seed=4, limit=8)


def test_a_sample_takes_no_more_than_its_cap_of_each_operator() -> None:
    chosen = sample(SOURCE, PYTHON_OPERATORS, seed=3, per_operator=2)
    names = [mutant.operator for mutant in chosen]
    assert max(names.count(name) for name in names) == 2


def test_a_mutant_of_a_source_that_has_changed_is_refused() -> None:
    mutant = next(mutants("x = a == b\n", PYTHON_OPERATORS))
    with pytest.raises(DataError, match="make them again"):
        apply("x = aa == b\n", mutant)
