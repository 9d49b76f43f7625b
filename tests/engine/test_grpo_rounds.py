"""Rounds of GRPO: what is drawn, what is replaced, and what survives on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curricle.config.agent_training import GrpoParameters
from curricle.engine.grpo_journal import JOURNAL_NAME, RoundJournal
from curricle.engine.grpo_rounds import Attempt, Round, Task, draw_round
from curricle.errors import ExecutionFailed

TASKS: list[Task] = [{"name": name} for name in "abcde"]


def parameters(**changes: Any) -> GrpoParameters:
    settings: dict[str, Any] = {
        "environment": {"function": "nowhere:nothing"}, "rounds": 4, "groups": 2,
        "num_generations": 2, "batch_size": 4, "max_length": 64, "learning_rate": 1e-3,
    }  # fmt: skip
    return GrpoParameters(**{**settings, **changes})


class Player:
    """Tries tasks: each task's rewards are given, and what was asked for is kept."""

    def __init__(self, rewards: dict[str, list[float | None]]) -> None:
        self.rewards = rewards
        self.asked: list[tuple[str, Task, int]] = []

    def __call__(self, tries: Sequence[tuple[str, Task, int]]) -> list[Attempt]:
        self.asked += tries
        return [
            Attempt([1], [2, 3], [1, 0], self.rewards[task["name"]][int(name.split(".")[1])])
            for name, task, _ in tries
        ]

    @property
    def names(self) -> list[str]:
        return [task["name"] for name, task, _ in self.asked if name.endswith(".0")]


DIFFER: list[float | None] = [0.0, 1.0]
EQUAL: list[float | None] = [1.0, 1.0]
MASKED: list[float | None] = [None, None]


def rewards(**special: list[float | None]) -> dict[str, list[float | None]]:
    return {**{task["name"]: DIFFER for task in TASKS}, **special}


def play(player: Player, settings: GrpoParameters, rounds: int) -> list[Round]:
    done: list[Round] = []
    for number in range(rounds):
        drawn = done[-1].drawn if done else 0
        done.append(draw_round(number, drawn, TASKS, settings, player))
    return done


def test_every_task_is_drawn_once_before_any_is_drawn_twice() -> None:
    player = Player(rewards())
    play(player, parameters(groups=5, batch_size=10), rounds=3)
    passes = [player.names[first : first + 5] for first in (0, 5, 10)]
    assert all(sorted(names) == list("abcde") for names in passes)
    assert len({tuple(names) for names in passes}) > 1


def test_every_try_has_a_seed_of_its_own() -> None:
    player = Player(rewards())
    play(player, parameters(), rounds=4)
    seeds = [seed for _, _, seed in player.asked]
    assert len(set(seeds)) == len(seeds) == 16


def test_groups_that_teach_nothing_are_replaced_and_counted() -> None:
    equal = {name: EQUAL for name in "abc"}
    done = play(Player(rewards(**equal)), parameters(redraws=5), rounds=2)
    assert all(group.differs for each in done for group in each.groups)
    replaced = sum(len(each.replaced) for each in done)
    assert replaced == sum(each.measure()["groups/redrawn"] for each in done) > 0


def test_replacing_is_bounded() -> None:
    player = Player(dict.fromkeys("abcde", EQUAL))
    (done,) = play(player, parameters(redraws=2), rounds=1)
    assert len(player.names) == 6
    assert len(done.groups) == 2
    assert done.measure()["groups/differing"] == 0


def test_a_group_that_is_masked_as_a_whole_is_counted_and_replaced() -> None:
    player = Player(rewards(a=MASKED))
    settings = parameters(groups=5, batch_size=10, redraws=1)
    (done,) = play(player, settings, rounds=1)
    assert done.measure()["groups/masked"] == 1
    assert done.measure()["tries/masked"] == 2
    assert len(done.replaced) == 1
    assert done.measure()["tries/reward"] == 0.5  # of those that are known


def test_a_round_without_any_reward_ends_the_run_with_its_reason() -> None:
    def nothing(tries: Sequence[tuple[str, Task, int]]) -> list[Attempt]:
        return [Attempt([1], [2], [1], None, note="no sandbox") for _ in tries]

    with pytest.raises(ExecutionFailed, match=r"not one of its tries .* no sandbox"):
        draw_round(0, 0, TASKS, parameters(), nothing)


class TestTheJournal:
    @pytest.fixture
    def rounds(self) -> list[Round]:
        return play(Player(rewards(a=MASKED, b=EQUAL)), parameters(), rounds=3)

    def test_gives_back_what_was_recorded(self, tmp_path: Path, rounds: list[Round]) -> None:
        journal = RoundJournal(tmp_path)
        for each in rounds:
            journal.record(each)
        assert RoundJournal(tmp_path).rounds == rounds
        assert RoundJournal(tmp_path).find(3) is None

    @pytest.mark.parametrize("lost", [1, 40])
    def test_a_line_that_was_cut_off_does_not_exist(
        self, tmp_path: Path, rounds: list[Round], lost: int
    ) -> None:
        journal = RoundJournal(tmp_path)
        for each in rounds:
            journal.record(each)
        path = tmp_path / JOURNAL_NAME
        whole = path.read_bytes()
        path.write_bytes(whole[:-lost])
        again = RoundJournal(tmp_path)
        assert again.rounds == rounds[:2]
        again.record(rounds[2])
        assert path.read_bytes() == whole

    def test_a_line_that_was_changed_does_not_count(
        self, tmp_path: Path, rounds: list[Round]
    ) -> None:
        journal = RoundJournal(tmp_path)
        journal.record(rounds[0])
        path = tmp_path / JOURNAL_NAME
        path.write_text(path.read_text().replace('"reward":1.0', '"reward":0.0', 1))
        assert RoundJournal(tmp_path).rounds == []
