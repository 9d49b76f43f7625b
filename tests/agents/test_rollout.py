"""The loop of rollouts with environments and generators that do what a test needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from curricle.agents.conversation import Message, RolloutTask, Trajectory
from curricle.agents.generator import Completion, Turn
from curricle.agents.recording import read_trajectories, record_rollouts
from curricle.agents.rollout import run_rollouts
from curricle.config.generation import RolloutParameters
from curricle.errors import DataError, Interrupted

END = 0


class Letters:
    """A renderer whose tokens are the letters of the content; 0 ends an answer."""

    stop_token_ids = (END,)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> list[int]:
        return [ord(letter) for message in messages for letter in message["content"]]

    def continuation(self, observations: Sequence[Message]) -> list[int]:
        if any("<end>" in message["content"] for message in observations):
            raise DataError("spells a control token")
        return self.prompt(observations)

    def answer(self, ids: Sequence[int]) -> dict[str, Any]:
        text = "".join(chr(token) for token in ids if token != END)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if ids[-1] != END:
            message["malformed"] = "cut off"
        return message


@dataclass
class Scripted:
    """A generator that answers every turn by a function, one turn per poll."""

    answer: Callable[[Turn], Sequence[int]]
    seen: dict[str, list[int]] = field(default_factory=dict)
    waiting: list[Turn] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    most_waiting: int = 0
    unlike: list[list[tuple[int, ...]]] = field(default_factory=list)
    heeds_unlike: bool = True

    def submit(self, turn: Turn) -> None:
        self.unlike.append([tuple(answer) for answer in turn.unlike])
        self.seen.setdefault(turn.conversation, []).extend(turn.tokens)
        self.waiting.append(turn)

    def poll(self, timeout_s: float) -> list[Completion]:
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        if not self.waiting:
            return []
        turn = self.waiting.pop(0)
        tokens = list(self.answer(turn))[: turn.max_new_tokens]
        self.seen[turn.conversation] += tokens
        ending = "stop" if tokens and tokens[-1] == END else "length"
        return [Completion(turn.conversation, tokens, ending, read_tokens=len(turn.tokens))]

    def drop(self, conversation: str) -> None:
        self.dropped.append(conversation)
        self.waiting = [turn for turn in self.waiting if turn.conversation != conversation]

    def close(self) -> None:
        """Nothing to free."""


def say(text: str) -> list[int]:
    return [*map(ord, text), END]


@dataclass
class Counting:
    """An environment that is done after so many steps."""

    steps: int = 3
    seconds: float = 0.0
    observation: str = "seen"
    taken: list[Message] = field(default_factory=list)

    def start(self) -> list[Message]:
        return [{"role": "user", "content": "go"}]

    def step(self, message: Message) -> tuple[Message | None, bool]:
        time.sleep(self.seconds)
        self.taken.append(message)
        done = len(self.taken) >= self.steps
        name = "" if message.get("malformed") else "look"
        return {"role": "tool", "name": name, "content": self.observation}, done


def run(
    environments: Mapping[str, Callable[[], Any]],
    generator: Scripted,
    max_new_tokens: int = 20,
    finish: Callable[[Any], Mapping[str, Any]] | None = None,
    **budgets: Any,
) -> dict[str, Trajectory]:
    tasks = [RolloutTask(name, make, finish=finish) for name, make in environments.items()]
    return {
        trajectory.task: trajectory
        for trajectory in run_rollouts(
            tasks, generator, Letters(), RolloutParameters(**budgets),
            max_new_tokens=max_new_tokens,
        )
    }  # fmt: skip


@dataclass
class Spending(Counting):
    """An environment in which the third step alone changes something."""

    def step(self, message: Message) -> tuple[Message | None, bool]:
        observation, done = super().step(message)
        assert observation is not None
        return {**observation, "spent": len(self.taken) != 3}, done


@pytest.mark.parametrize(("avoids", "heeds"), [(True, True), (True, False), (False, True)])
def test_answers_that_changed_nothing_are_named_until_something_changes(
    avoids: bool, heeds: bool, caplog: pytest.LogCaptureFixture
) -> None:
    generator = Scripted(lambda turn: say(f"{len(generator.unlike)}"), heeds_unlike=heeds)
    ended = run({"a": lambda: Spending(steps=5)}, generator, avoid_repeats=avoids)["a"]
    first, second, fourth = (tuple(say(text)) for text in "124")
    named = [[], [first], [first, second], [], [fourth]]
    assert generator.unlike == (named if avoids and heeds else [[]] * 5)
    assert not any("spent" in message for message in ended.messages)
    assert ("may repeat" in caplog.text) == (avoids and not heeds)


def test_a_conversation_alternates_until_its_environment_is_done() -> None:
    generator = Scripted(lambda turn: say("hi"))
    trajectory = run({"a": Counting}, generator, finish=lambda env: {"n": len(env.taken)})["a"]
    roles = [message["role"] for message in trajectory.messages]
    assert roles == ["user", *["assistant", "tool"] * 3]
    assert (trajectory.end, trajectory.turns, trajectory.outcome) == ("done", 3, {"n": 3})
    assert trajectory.generated_tokens == 9
    assert trajectory.tokens == len("go") + 9 + 2 * len("seen")
    assert "a" in generator.dropped


def test_the_generator_reads_exactly_what_the_renderer_appended() -> None:
    generator = Scripted(lambda turn: say("hi"))
    run({"a": Counting}, generator)
    assert generator.seen["a"] == [*map(ord, "gohi"), 0, *map(ord, "seenhi"), 0,
                                   *map(ord, "seenhi"), 0]  # fmt: skip


def test_an_answer_that_was_cut_off_is_ended_before_what_follows() -> None:
    generator = Scripted(lambda turn: say("too long to end"))
    trajectory = run({"a": lambda: Counting(2)}, generator, max_new_tokens=4)["a"]
    assert trajectory.malformed == 2
    # What answers a call that could not be read is the user's: no tool spoke.
    assert trajectory.messages[2] == {"role": "user", "content": "seen"}
    assert generator.seen["a"] == [*map(ord, "gotoo "), 0, *map(ord, "seentoo ")]


def test_tools_of_some_run_while_others_generate() -> None:
    generator = Scripted(lambda turn: say("x"))
    environments = {f"c{n}": lambda: Counting(3, seconds=0.1) for n in range(16)}
    started = time.monotonic()
    run(environments, generator, workers=16, side_by_side=16)
    assert time.monotonic() - started < 2.4  # one after the other takes 4.8
    assert generator.most_waiting > 1


def test_no_more_conversations_are_open_than_allowed() -> None:
    lock, state = threading.Lock(), {"open": 0, "most": 0}

    def enter() -> Counting:
        with lock:
            state["open"] += 1
            state["most"] = max(state["most"], state["open"])
        return Counting(1)

    def leave(environment: Any) -> dict[str, Any]:
        with lock:
            state["open"] -= 1
        return {}

    environments = {f"c{n}": enter for n in range(9)}
    done = run(environments, Scripted(lambda turn: say("x")), finish=leave, side_by_side=3,
               workers=9)  # fmt: skip
    assert len(done) == 9
    assert state == {"open": 0, "most": 3}


@pytest.mark.parametrize(
    ("budgets", "end"),
    [({"max_turns": 2}, "turns"), ({"max_tokens": 30}, "tokens"),
     ({"conversation_timeout_s": 0.3}, "time")],
)  # fmt: skip
def test_every_budget_ends_a_conversation_that_would_go_on(
    budgets: dict[str, Any], end: str
) -> None:
    endless = {"a": lambda: Counting(steps=10**9, seconds=0.05)}
    trajectory = run(endless, Scripted(lambda turn: say("x")), finish=lambda env: {"graded": True},
                     **budgets)["a"]  # fmt: skip
    assert trajectory.end == end
    assert trajectory.outcome == {"graded": True}
    assert trajectory.tokens <= RolloutParameters().max_tokens


def test_a_call_that_never_returns_is_left_behind_and_holds_up_nobody() -> None:
    hanging = {f"h{n}": lambda: Counting(1, seconds=60) for n in range(2)}
    fine = {f"c{n}": Counting for n in range(4)}
    started = time.monotonic()
    done = run({**hanging, **fine}, Scripted(lambda turn: say("x")), workers=2, step_timeout_s=0.3)
    assert time.monotonic() - started < 10
    assert {done[name].end for name in hanging} == {"infrastructure"}
    assert "left behind" in done["h0"].note
    assert {done[name].end for name in fine} == {"done"}


def test_a_task_that_cannot_be_opened_is_counted_and_the_others_go_on() -> None:
    def vanished() -> Counting:
        raise DataError("project x: the folder is gone")

    done = run({"bad": vanished, "good": Counting}, Scripted(lambda turn: say("x")))
    assert (done["bad"].end, done["bad"].note) == (
        "infrastructure", "project x: the folder is gone",
    )  # fmt: skip
    assert done["good"].end == "done"


def test_a_defect_in_an_environment_is_raised() -> None:
    def broken() -> Counting:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run({"a": broken}, Scripted(lambda turn: say("x")))


def test_an_observation_of_ten_megabytes_is_cut_to_its_budget() -> None:
    environment = Counting(2, observation="start " + "x" * 10_000_000 + " the end")
    generator = Scripted(lambda turn: say("x"))
    started = time.monotonic()
    trajectory = run({"a": lambda: environment}, generator, observation_tokens=100)["a"]
    assert time.monotonic() - started < 5
    shown = trajectory.messages[2]["content"]
    assert len(shown) <= 100
    assert shown.startswith("start ")
    assert shown.endswith(" the end")
    assert "characters" in shown


def test_an_observation_that_spells_a_control_token_is_replaced() -> None:
    trajectory = run(
        {"a": lambda: Counting(2, observation="<end>")}, Scripted(lambda turn: say("x"))
    )["a"]
    assert "control token" in trajectory.messages[2]["content"]
    assert trajectory.end == "done"


def test_a_generator_that_fails_ends_the_conversation_with_its_reason() -> None:
    class Failing(Scripted):
        def poll(self, timeout_s: float) -> list[Completion]:
            turn = self.waiting.pop()
            return [Completion(turn.conversation, (), "failed", error="status 503")]

    trajectory = run({"a": Counting}, Failing(lambda turn: []))["a"]
    assert (trajectory.end, trajectory.note) == ("generator", "status 503")


def test_a_generator_that_hangs_is_left_by_the_clock() -> None:
    class Hanging(Scripted):
        def poll(self, timeout_s: float) -> list[Completion]:
            time.sleep(timeout_s)
            return []

    trajectory = run({"a": Counting}, Hanging(lambda turn: []), conversation_timeout_s=0.3)["a"]
    assert trajectory.end == "time"


def test_two_tasks_of_one_name_are_refused() -> None:
    tasks = [RolloutTask("a", Counting), RolloutTask("a", Counting)]
    with pytest.raises(ValueError, match="one name"):
        list(run_rollouts(tasks, Scripted(lambda turn: []), Letters(), RolloutParameters()))


# Files


def tasks_of(count: int, seconds: Callable[[int], float] = lambda n: 0.0) -> list[RolloutTask]:
    def make(number: int) -> Callable[[], Counting]:
        return lambda: Counting(1, seconds=seconds(number))

    return [RolloutTask(f"t{number}", make(number)) for number in range(count)]


def test_the_file_is_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    tasks = tasks_of(6, lambda number: 0.03 * (6 - number))
    ended: list[int] = []
    record_rollouts(
        path, tasks, Scripted(lambda turn: say("x")), Letters(), RolloutParameters(workers=6),
        on_progress=lambda done, total: ended.append(done),
    )  # fmt: skip
    assert [row.task for row in read_trajectories(path)] == [f"t{n}" for n in range(6)]
    assert ended == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rollouts.jsonl"]


def test_what_a_journal_holds_is_not_had_again_but_for_faults(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    rows = [Trajectory("t0", (), "turns"), Trajectory("t1", (), "infrastructure")]
    torn = json.dumps(rows[0].to_row())[:20]
    journal = tmp_path / "rollouts.jsonl.partial"
    journal.write_text("".join(json.dumps(row.to_row()) + "\n" for row in rows) + torn)
    generator = Scripted(lambda turn: say("x"))
    done = record_rollouts(path, tasks_of(3), generator, Letters(), RolloutParameters())
    assert [(row.task, row.end) for row in done] == [
        ("t0", "turns"), ("t1", "done"), ("t2", "done"),
    ]  # fmt: skip
    assert sorted(generator.seen) == ["t1", "t2"]


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from test_rollout import Letters, Scripted, say, tasks_of
from curricle.agents.recording import record_rollouts
from curricle.config.generation import RolloutParameters

record_rollouts(
    Path({path!r}), tasks_of(30, lambda number: 0.1), Scripted(lambda turn: say("x")), Letters(),
    RolloutParameters(workers=1), on_progress=lambda done, total: print(done, flush=True),
)
"""


def test_a_signal_keeps_what_is_finished_and_the_same_call_continues(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    script = SLOW.format(here=os.fspath(Path(__file__).parent), path=os.fspath(path))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        assert p.stdout is not None
        assert p.stderr is not None
        for _ in range(3):
            p.stdout.readline()
        p.send_signal(signal.SIGTERM)
        assert Interrupted.__name__ in p.stderr.read()
    kept = read_trajectories(tmp_path / "rollouts.jsonl.partial")
    assert 3 <= len(kept) < 30
    assert not path.exists()
    generator = Scripted(lambda turn: say("x"))
    done = record_rollouts(path, tasks_of(30), generator, Letters(), RolloutParameters())
    assert len(done) == 30
    assert len(generator.seen) == 30 - len(kept)
