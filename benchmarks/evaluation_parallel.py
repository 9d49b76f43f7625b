"""Evaluation of 64 tasks side by side, against one task at a time with the same generator.

A task is a conversation of four turns; its tool is a real process that starts Python and waits,
together about as long as a test run of the trial. One at a time is measured on every eighth task.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from rollouts import ANSWER, OBSERVATION, make_model, words

from curricle.agents.conversation import Message, RolloutTask
from curricle.agents.rollout import run_rollouts
from curricle.config.generation import GenerationParameters, RolloutParameters
from curricle.engine.generation import generator_of

GOAL = 4.0
TASKS, EACH = 64, 8
TURNS, PROMPT, TOOL_S = 4, 120, 0.25
TOOL = [sys.executable, "-S", "-c", f"import time; time.sleep({TOOL_S})"]


class FixedTokens:
    """A renderer whose prompts and observations have the trial's lengths."""

    stop_token_ids = (0,)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> list[int]:
        """Return the tokens of a task."""
        return words(PROMPT, seed=int(messages[0]["content"]))

    def continuation(self, observations: Sequence[Message]) -> list[int]:
        """Return the tokens of an observation."""
        return words(OBSERVATION, seed=1)

    def answer(self, ids: Sequence[int]) -> dict[str, Any]:
        """Return a message."""
        return {"role": "assistant", "content": "x"}


class ToolProcess:
    """An environment whose every step runs a process."""

    def __init__(self, number: int) -> None:
        self.number, self.turns = number, 0

    def start(self) -> list[Message]:
        """Return the task."""
        return [{"role": "user", "content": str(self.number)}]

    def step(self, message: Message) -> tuple[Message, bool]:
        """Run the tool."""
        subprocess.run(TOOL, check=True)
        self.turns += 1
        return {"role": "tool", "name": "run_tests", "content": "x"}, self.turns == TURNS


def seconds_a_task(numbers: Sequence[int], side_by_side: int, model: Any) -> float:
    """Return wall-clock seconds of a task."""
    generator = generator_of(model, GenerationParameters(batch_size=32), stop_tokens=[])
    parameters = RolloutParameters(side_by_side=side_by_side, workers=4)
    tasks = [RolloutTask(str(number), lambda n=number: ToolProcess(n)) for number in numbers]
    started = time.perf_counter()
    done = list(run_rollouts(
        tasks, generator, FixedTokens(), parameters, max_new_tokens=ANSWER
    ))  # fmt: skip
    assert {trajectory.turns for trajectory in done} == {TURNS}
    return (time.perf_counter() - started) / len(numbers)


def main() -> int:
    """Print the seconds of a task either way."""
    model = make_model()
    alone = seconds_a_task(range(0, TASKS, EACH), 1, model)
    together = seconds_a_task(range(TASKS), TASKS, model)
    print(f"one at a time {alone:.2f} s a task, side by side {together:.2f} s a task")
    print(f"evaluation_parallel ratio={alone / together:.2f} goal={GOAL}")
    return int(alone / together < GOAL)


if __name__ == "__main__":
    sys.exit(main())
