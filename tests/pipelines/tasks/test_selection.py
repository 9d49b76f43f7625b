"""The held-out selection: even over operators and projects."""

from __future__ import annotations

from collections import Counter

from curricle.languages.mutation import Mutant
from curricle.languages.tasks import BugTask, ProjectMutant
from curricle.pipelines.tasks.selection import select_balanced


def task(project: str, operator: str, number: int) -> BugTask:
    change = Mutant(operator, number, number + 1, "a", "b", number)
    mutant = ProjectMutant(project, "python", "m.py", f"f{number}", change, "builtin", "1")
    return BugTask(mutant, "digest", ("t::a",), (), (), "", "heldout")


def many(counts: dict[tuple[str, str], int]) -> list[BugTask]:
    return [
        task(project, operator, number + 100 * index)
        for index, ((project, operator), count) in enumerate(counts.items())
        for number in range(count)
    ]


def operators(tasks: tuple[BugTask, ...]) -> Counter[str]:
    return Counter(task.mutant.mutant.operator for task in tasks)


def test_no_operator_has_more_than_a_fifth() -> None:
    tasks = many({("p", "not"): 60, **{("p", f"o{n}"): 9 for n in range(6)}})
    chosen = select_balanced(tasks, 40, 0.2, seed=0)
    assert len(chosen) == 40
    assert max(operators(chosen).values()) <= 8


def test_the_share_holds_of_what_is_selected_when_there_are_too_few() -> None:
    tasks = many({("p", "not"): 60, **{("p", f"o{n}"): 1 for n in range(6)}})
    chosen = select_balanced(tasks, 64, 0.2, seed=0)
    assert max(operators(chosen).values()) <= max(1, len(chosen) // 5)


def test_projects_have_equal_shares_where_they_have_enough() -> None:
    tasks = many({(project, f"o{n}"): 10 for project in ("a", "b", "c", "d") for n in range(8)})
    chosen = select_balanced(tasks, 24, 0.2, seed=0)
    assert set(Counter(task.mutant.project for task in chosen).values()) == {6}


def test_a_selection_repeats_for_its_seed_whatever_the_order() -> None:
    tasks = many({("p", f"o{n}"): 10 for n in range(8)})
    chosen = select_balanced(tasks, 12, 0.2, seed=3)
    assert chosen == select_balanced(tasks[::-1], 12, 0.2, seed=3)
    assert chosen != select_balanced(tasks, 12, 0.2, seed=4)


def test_all_are_taken_when_fewer_are_there_than_wanted() -> None:
    tasks = many({("p", f"o{n}"): 1 for n in range(8)})
    assert len(select_balanced(tasks, 24, 0.2, seed=0)) == 8
