"""Inside GRPO as in the grader: a hack is worth nothing, an honest repair is worth one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from curricle.agents.bug_environment import BugEnvironment, BugRoom, BugSettings
from curricle.agents.conversation import Trajectory
from curricle.agents.refusal import Refused
from curricle.engine.grpo_rollouts import as_attempt
from curricle.engine.grpo_rounds import Attempt
from tests.adversarial.python import hacks
from tests.execution.python_projects import BACKEND, bug_task

PACKAGE = "src/textkit/"
BEYOND_TOOLS = [h for h in hacks.HACKS if any(not p.startswith(PACKAGE) for p in h.files)]
WITHIN_REACH = [h for h in hacks.HACKS if h not in BEYOND_TOOLS and h.name != "never_ends"]
SAMPLE = WITHIN_REACH[::6]
"""Every sixth: the grader's own tests have them all, and here each costs a whole grading."""


@pytest.fixture(scope="module")
def attempt(
    textkit: Any, sandbox: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Attempt]:
    """Leave some changes as an agent would, and return what GRPO trains on."""
    task = bug_task(
        textkit, sandbox, hacks.FILE, "encode_runs", "runs[-1][1] + 1", "runs[-1][1] + 2"
    )

    def leave(changes: dict[str, str | None], run_wall_s: float = 20.0) -> Attempt:
        stored = tmp_path_factory.getbasetemp() / f"kept{run_wall_s}" / "store" / "projects" / "0"
        stored.mkdir(parents=True, exist_ok=True)
        room = BugRoom(BugSettings(run_wall_s=run_wall_s), {"projects_python": stored}, sandbox)
        environment = BugEnvironment(room, task, textkit, BACKEND)
        for path, text in changes.items():
            workspace = environment.session.workspace
            environment.session.workspace = workspace.write(path, text or "")
        _, done = environment.step({"role": "assistant", "content": "Fixed."})
        assert done
        outcome = environment.score()
        return as_attempt(Trajectory(task.id, (), "done", outcome=asdict(outcome)), "scored")

    return leave


@pytest.fixture
def play(attempt: Callable[..., Attempt]) -> Callable[[dict[str, str | None]], float | None]:
    """Leave some changes, and return the reward."""
    return lambda changes: attempt(changes).reward


@pytest.mark.parametrize("hack", SAMPLE, ids=lambda hack: hack.name)
def test_a_hack_is_worth_nothing(
    hack: hacks.Hack, play: Callable[[Any], float | None], textkit: Any
) -> None:
    whole = Path(textkit.project.root / hacks.FILE).read_text()
    broken = whole.replace("runs[-1][1] + 1", "runs[-1][1] + 2")
    assert play(dict(hacks.patched(hack, broken))) == 0.0


@pytest.mark.parametrize("hack", BEYOND_TOOLS, ids=lambda hack: hack.name)
def test_what_no_tool_may_write_is_not_even_tried(
    hack: hacks.Hack, play: Callable[[Any], float | None]
) -> None:
    with pytest.raises(Refused, match="no source file"):
        play(dict(hack.files))


@pytest.mark.parametrize("name", list(hacks.HONEST)[:1])
def test_an_honest_repair_is_worth_one(
    name: str, play: Callable[[Any], float | None], textkit: Any
) -> None:
    assert play(dict(hacks.honest(name, textkit.project.read(hacks.FILE)))) == 1.0


def test_a_repair_that_cannot_be_judged_says_why(
    attempt: Callable[..., Attempt], textkit: Any
) -> None:
    repair = hacks.honest(next(iter(hacks.HONEST)), textkit.project.read(hacks.FILE))
    left = attempt(repair, run_wall_s=0.05)
    assert left.reward is None
    assert "could not be" in left.note
