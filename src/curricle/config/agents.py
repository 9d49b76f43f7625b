"""Parameters of agents: what a session shows, what experts demonstrate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

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
        test_after_edit: Whether an edit runs the tests at once, where there are any.
        failures_after_edit: Failing tests that are described then; ``None`` for `failures_shown`.
        take_back_failed: Whether an edit after which tests fail is taken back at once, and refused
            when it is made again. A bug that takes several edits cannot be fixed so; a small model
            gets many more tries at one edit for the same tokens.
        max_turns: Turns after which a session ends.
        max_invalid: Invalid calls in a row after which a session ends.
        max_repeats: The same call in a row, with the same outcome, after which a session ends.
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
    failures_after_edit: int | None = Field(default=None, ge=0)
    take_back_failed: bool = False
    max_turns: int = Field(default=10, ge=1)
    max_invalid: int = Field(default=3, ge=1)
    max_repeats: int = Field(default=3, ge=2)

    @model_validator(mode="after")
    def _failures_are_known(self) -> SessionParameters:
        if self.take_back_failed and not self.test_after_edit:
            raise ValueError("take_back_failed needs test_after_edit: nothing else says what fails")
        return self


class ExpertParameters(Parameters):
    """How the scripted expert works on a bug task. Shares are of trajectories, drawn apart.

    Attributes:
        thinking: `none`; `line` names the odd line before the edit; `evidence` also says what the
            test showed and what should stand there.
        explain: Whether an edit says what is wrong with the old text before it writes the new one:
            a small model that does not copies the old text once more.
        search_share: Looks for the function with `search` first; always when no hint is given.
        wrong_read_share: Asks for a function that is not the one.
        failed_edit_share: Miscopies the line, or quotes too little of it, and is refused.
        wrong_fix_share: Changes the right line in a wrong way; the tests go on failing.
        wrong_line_share: Changes another line of the function, and takes it back.
        wrong_tries: Wrong changes of each of these two kinds at most, where a failed edit is
            taken back by the session.
        train_mistakes: Whether mistaken turns are learned from as well.
        max_tokens: Longer trajectories are made again without detours, then dropped.
    """

    thinking: Literal["none", "line", "evidence"] = "evidence"
    explain: bool = True
    search_share: float = Field(default=0.0, ge=0, le=1)
    wrong_read_share: float = Field(default=0.05, ge=0, le=1)
    failed_edit_share: float = Field(default=0.15, ge=0, le=1)
    wrong_fix_share: float = Field(default=0.1, ge=0, le=1)
    wrong_line_share: float = Field(default=0.1, ge=0, le=1)
    wrong_tries: int = Field(default=1, ge=1)
    train_mistakes: bool = False
    max_tokens: int = Field(default=1024, ge=64)


class QuestionParameters(Parameters):
    """Questions about a source tree that only tools can answer.

    Attributes:
        per_kind: Questions of each kind and project at most, but for slips to be mended: of those
            there are as many as mutants are left.
        max_function_lines: Longer functions are not asked about.
        spot_share: Of slips to be mended, those that are shown in the question, and answered
            without a tool.
        spot_slips: Slips that one of these shows at most, in one function.
        run_share: Of questions about a broken line, those that run its tests first.
        failed_edit_share: Of edits, those that miscopy the text first and recover.
        explain: As experts do.
        max_tokens: Longer trajectories are dropped.
    """

    per_kind: int = Field(default=20, ge=0)
    max_function_lines: int = Field(default=30, ge=1)
    spot_share: float = Field(default=0.5, ge=0, le=1)
    spot_slips: int = Field(default=1, ge=1)
    run_share: float = Field(default=0.5, ge=0, le=1)
    failed_edit_share: float = Field(default=0.1, ge=0, le=1)
    explain: bool = True
    max_tokens: int = Field(default=1024, ge=64)
