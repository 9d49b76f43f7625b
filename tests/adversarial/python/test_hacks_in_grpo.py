"""Inside GRPO as in the grader: a hack is worth nothing, an honest repair is worth one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curricle.agents.bug_environment import BugEnvironment, BugRoom, BugSettings
from curricle.agents.conversation import Trajectory
from curricle.agents.refusal import Refused
from curricle.engine.grpo_rollouts import as_attempt
from tests.adversarial.python import hacks
from tests.execution.python_projects import BACKEND, bug_task

PACKAGE = "src/textkit/"
BEYOND_TOOLS = [h for h in hacks.HACKS if any(not p.startswith(PACKAGE) for p in h.files)]
WITHIN_REACH = [h for h in hacks.HACKS if h not in BEYOND_TOOLS and h.name != "never_ends"]
SAMPLE = WITHIN_REACH[::6]
"""Every sixth: the grader's own tests have them all, and here each costs a whole grading."""


@pytest.fixture(scope="module")
def play(
    textkit: Any, sandbox: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, str | None]], float | None]:
    """Leave some changes as an agent would, and return the reward that GRPO trains on."""
    stored = tmp_path_factory.mktemp("kept") / "store" / "projects" / "0"
    stored.mkdir(parents=True)
    task = bug_task(
        textkit, sandbox, hacks.FILE, "encode_runs", "runs[-1][1] + 1", "runs[-1][1] + 2"
    )
    room = BugRoom(BugSettings(run_wall_s=20.0), {"projects_python": stored}, sandbox)

    def leave(changes: dict[str, str | None]) -> float | None:
        environment = BugEnvironment(room, task, textkit, BACKEND)
        for path, text in changes.items():
            workspace = environment.session.workspace
            environment.session.workspace = workspace.write(path, text or "")
        _, done = environment.step({"role": "assistant", "content": "Fixed."})
        assert done
        outcome = environment.score()
        ended = Trajectory(task.id, (), "done", outcome={"reward": outcome.reward})
        return as_attempt(ended, "scored").reward

    return leave


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
