"""Many mutants of one project run by one command: what a backend may offer to be quick.

A backend that offers it runs every trial twice by two methods that share nothing but the mutant:
first in a process that has the pristine project loaded and swaps the changed functions, then in one
that has loaded nothing of the project and imports the changed file. Where the two disagree there
is no bug task.
"""

from __future__ import annotations

from dataclasses import dataclass

from curricle.languages.evaluation import Evaluation
from curricle.languages.tasks import ProjectMutant


@dataclass(frozen=True)
class Trial:
    """One run of some tests.

    Attributes:
        id: Names it in the results.
        mutant: What is changed; `None` runs the project as it is.
        tests: The ids to run.
        limit_s: Seconds of processor time that either run may take.
    """

    id: str
    mutant: ProjectMutant | None
    tests: tuple[str, ...]
    limit_s: float


@dataclass(frozen=True)
class TrialResult:
    """What a trial's runs showed.

    Attributes:
        first: All of its tests.
        second: The failing ones and some others, again; `None` when nothing failed first.
    """

    first: Evaluation
    second: Evaluation | None = None
