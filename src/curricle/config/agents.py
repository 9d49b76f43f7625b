"""Parameters of agents: what a session shows, what experts demonstrate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curricle.config.base import Parameters


class SessionParameters(Parameters):
    """How a session with tools behaves. The same holds in training, rollouts and evaluation.

    Attributes:
        hint: What the first message says of where the bug is.
        tools: The tools on offer, by name; `None` offers all.
        show: What `read_file` shows: `code` leaves out comments, documentation and blank lines.
        numbered: Whether `read_file` puts line numbers before lines.
        read_lines: Lines that `read_file` shows at most.
        search_hits: Hits that `search` shows at most.
        search_timeout_s: Seconds that a search may take.
        observation_chars: Characters of an observation at most.
        failures_shown: Failing tests that `run_tests` describes.
        failure_lines: Lines of each of them.
        failing_run: Failing tests of the task that are run at most.
        regression_tests: Passing tests that are run beside them, to notice what an edit breaks.
        suspects_shown: Functions that `run_tests` names as reached by what failed.
        test_after_edit: Whether an edit runs the tests at once.
        max_turns: Turns after which a session ends.
        max_invalid: Invalid calls in a row after which a session ends.
    """

    hint: Literal["function", "file", "none"] = "function"
    tools: tuple[str, ...] | None = None
    show: Literal["code", "all"] = "code"
    numbered: bool = False
    read_lines: int = Field(default=60, ge=1)
    search_hits: int = Field(default=6, ge=1)
    search_timeout_s: float = Field(default=2.0, gt=0)
    observation_chars: int = Field(default=1200, ge=200)
    failures_shown: int = Field(default=1, ge=1)
    failure_lines: int = Field(default=3, ge=1)
    failing_run: int = Field(default=10, ge=1)
    regression_tests: int = Field(default=20, ge=0)
    suspects_shown: int = Field(default=3, ge=0)
    test_after_edit: bool = False
    max_turns: int = Field(default=10, ge=1)
    max_invalid: int = Field(default=3, ge=1)
