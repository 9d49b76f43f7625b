"""Tries of tasks: conversations of the model that is being trained, as training needs them.

The conversations are those of every rollout, with the same loop and the same budgets. What is added
here is what a loss needs: the very tokens that the model read and wrote, and a reward or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curricle.agents.conversation import Trajectory
from curricle.agents.generator import Generator
from curricle.agents.remote import RemoteEnvironments
from curricle.agents.rollout import run_rollouts
from curricle.config.agent_training import GrpoParameters
from curricle.config.generation import RolloutParameters
from curricle.engine.grpo_rounds import Attempt, Task
from curricle.engine.renderers import Renderer
from curricle.errors import Interrupted
from curricle.execution.executor import START_S
from curricle.launch.signals import StopRequest

_UNKNOWN = frozenset({"infrastructure", "generator", "time"})
"""Ends that say nothing of the model: a fault, or a machine that was too slow."""


class Rollouts:
    """Tries tasks with one generator; see ``curricle.engine.grpo_rounds.RollOut``."""

    def __init__(
        self,
        generator: Generator,
        renderer: Renderer,
        room: RemoteEnvironments,
        parameters: GrpoParameters,
        workers: int,
        stop: StopRequest,
    ) -> None:
        self._generator = generator
        self._renderer = renderer
        self._room = room
        self._parameters = parameters
        self._budgets = rollout_budgets(parameters, workers)
        self._stop = stop

    def __call__(self, tries: Sequence[tuple[str, Task, int]]) -> list[Attempt]:
        """Try each (name, task, seed), and return the tries in that order.

        Raises:
            Interrupted: a signal arrived; nothing of the round is kept.
        """
        p = self._parameters
        conversations = [
            self._room.task(name, task, (), seed=seed, temperature=p.temperature)
            for name, task, seed in tries
        ]
        ended = run_rollouts(
            conversations, self._generator, self._renderer, self._budgets,
            max_new_tokens=p.max_turn_tokens,
            should_stop=lambda: bool(self._stop),
            keep_tokens=True,
        )  # fmt: skip
        done = {trajectory.task: trajectory for trajectory in ended}
        if len(done) < len(tries):
            raise Interrupted(
                f"stopped by {self._stop.signal_name} between two steps. The same command "
                f"continues from the last saved step.",
                self._stop.signal_name,
            )
        return [as_attempt(done[name], p.overlong) for name, _, _ in tries]


def rollout_budgets(parameters: GrpoParameters, workers: int) -> RolloutParameters:
    """Return what bounds a try."""
    p = parameters
    return RolloutParameters(
        side_by_side=p.concurrency,
        workers=workers,
        max_turns=p.max_turns,
        max_tokens=p.max_length,
        observation_tokens=p.observation_tokens,
        conversation_timeout_s=p.conversation_timeout_s,
        # Behind the environments' own, which kills: a call may wait for another one's end.
        step_timeout_s=START_S + 2 * p.environment.step_timeout_s,
    )


def as_attempt(trajectory: Trajectory, overlong: str) -> Attempt:
    """Return a conversation as training sees it; one of which nothing is known is masked."""
    outcome: dict[str, Any] = dict(trajectory.outcome)
    outgrew = trajectory.end == "tokens"
    reward = outcome.get("reward")
    if trajectory.end in _UNKNOWN or (outgrew and overlong == "masked"):
        reward = None
    return Attempt(
        list(trajectory.prompt_ids),
        list(trajectory.completion_ids),
        list(trajectory.written),
        reward,
        ending=trajectory.end,
        turns=trajectory.turns,
        calls=int(outcome.get("calls", 0)),
        valid_calls=int(outcome.get("valid_calls", 0)),
        overlong=outgrew,
        note=trajectory.note or str(outcome.get("note", "")),
    )
