"""Mutants of whole projects: which functions they belong to, and how a sample is drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from curricle.checkpoints.hashing import hash_tree
from curricle.languages.engines import Quota, Seen, Selection, builtin_proposals, select
from curricle.languages.mutation import apply
from curricle.languages.project import Project
from curricle.languages.python_operators import PYTHON_OPERATORS
from curricle.languages.scopes import function_at, functions

SHAPES = '''\
"""Shapes: a docstring with True and 1 == 1 in it."""

LIMIT = 10 + 1


def area(width, height):
    """Area: True, 1 + 1."""
    # not width == height
    if width < 0 or height < 0:
        raise ValueError("negative")
    return width * height


class Box:
    def grow(self, size, times):
        def once(side):
            return side + size

        for _ in range(times):
            self.side = once(self.side)
        return self.side

    class Lid:
        def shut(self, hard=False):
            return not hard
'''
WIDE = Quota(limit=1000, per_function=1000, per_operator=1000, per_function_operator=1000)


def project_of(folder: Path, name: str = "shapes", **files: str) -> Project:
    root = folder / name
    root.mkdir(parents=True)
    for file, text in (files or {"shapes": SHAPES}).items():
        (root / f"{file}.py").write_text(text)
    return Project(name, "python", root, hash_tree(root), ("*.py",), ("test_*.py",))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_of(tmp_path)


def drawn(project: Project, quota: Quota, **more: object) -> Selection:
    proposed = builtin_proposals(project, PYTHON_OPERATORS)
    return select(project, PYTHON_OPERATORS, proposed, quota, **more)  # type: ignore[arg-type]


def test_functions_are_named_by_what_holds_them_and_hold_their_inner_ones() -> None:
    names = [function.name for function in functions(SHAPES, PYTHON_OPERATORS)]
    assert names == ["area", "Box.grow", "Box.Lid.shut"]


def test_a_span_within_an_inner_function_belongs_to_the_outer_one() -> None:
    start = SHAPES.index("side + size")
    found = function_at(functions(SHAPES, PYTHON_OPERATORS), start, start + 4)
    assert found is not None
    assert found.name == "Box.grow"
    assert function_at(functions(SHAPES, PYTHON_OPERATORS), 0, 3) is None


def test_comments_documentation_and_space_do_not_make_another_function() -> None:
    bare = "def area(width, height):\n  if width<0 or height<0:\n    raise ValueError('negative')\n"
    bare += "  return width*height\n"
    (one, *_), (other,) = functions(SHAPES, PYTHON_OPERATORS), functions(bare, PYTHON_OPERATORS)
    assert one.digest != other.digest  # another quote is another token
    (other,) = functions(bare.replace("'", '"'), PYTHON_OPERATORS)
    assert one.digest == other.digest


def test_mutants_are_in_functions_and_leave_documentation_and_comments_alone(
    project: Project,
) -> None:
    selection = drawn(project, WIDE)
    assert selection.dropped["outside of functions"] > 0
    for mutant in selection.mutants:
        assert mutant.function in ("area", "Box.grow", "Box.Lid.shut")
        mutated = apply(SHAPES, mutant.mutant)
        assert "Area: True, 1 + 1." in mutated
        assert "# not width == height" in mutated


def test_a_draw_repeats_for_its_seed_and_differs_for_another(project: Project) -> None:
    quota = Quota(limit=8, per_function=8, per_operator=8, seed=1)
    assert drawn(project, quota) == drawn(project, quota)
    other = Quota(limit=8, per_function=8, per_operator=8, seed=2)
    assert drawn(project, quota).mutants != drawn(project, other).mutants


def test_a_draw_is_even_over_the_operators(project: Project) -> None:
    selection = drawn(project, Quota(limit=9, per_function=9, per_operator=9))
    counts = Counter(mutant.mutant.operator for mutant in selection.mutants)
    assert sum(counts.values()) == 9
    assert max(counts.values()) == 1


def test_caps_hold_for_functions_operators_and_both(project: Project) -> None:
    selection = drawn(
        project, Quota(limit=100, per_function=5, per_operator=3, per_function_operator=2)
    )
    mutants = selection.mutants
    assert max(Counter(m.function for m in mutants).values()) <= 5
    assert max(Counter(m.mutant.operator for m in mutants).values()) <= 3
    assert max(Counter((m.function, m.mutant.operator) for m in mutants).values()) <= 2
    assert selection.dropped["over the function's cap"] > 0


def test_functions_that_no_test_reaches_and_long_ones_are_left_out(project: Project) -> None:
    selection = drawn(project, WIDE, reached={"shapes.py::area"})
    assert {mutant.function for mutant in selection.mutants} == {"area"}
    assert selection.dropped["not reached by tests"] > 0
    short = Quota(limit=99, per_function=99, per_operator=99, max_function_lines=2)
    assert {mutant.function for mutant in drawn(project, short).mutants} == {"Box.Lid.shut"}


def test_a_copy_of_a_function_in_another_project_gives_no_second_task(tmp_path: Path) -> None:
    copied = SHAPES[SHAPES.index("def area") : SHAPES.index("class Box")]
    vendored = "import os\n\n\n" + copied.replace("# not width", "# something else")
    original, copy = project_of(tmp_path), project_of(tmp_path, "other", vendored=vendored)
    seen = Seen()
    first = drawn(original, WIDE, seen=seen)
    second = drawn(copy, WIDE, seen=seen)
    assert any(mutant.function == "area" for mutant in first.mutants)
    assert second.mutants == ()
    assert second.dropped["duplicate"] > 0


def test_mutants_of_methods_are_checked_as_programs_of_their_own(project: Project) -> None:
    for mutant in drawn(project, WIDE).mutants:
        assert PYTHON_OPERATORS.is_mutant(SHAPES, apply(SHAPES, mutant.mutant))
