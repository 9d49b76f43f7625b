"""All that a language plugin imports: the contract, its data classes, the mutation engine."""

from curricle.errors import DataError
from curricle.languages.backend import (
    Canaries,
    Comparison,
    Curriculum,
    LanguageBackend,
    MutationTool,
    ToolSpec,
)
from curricle.languages.commands import (
    CACHE,
    REPORT,
    WARM_SERVER,
    WORK,
    Command,
    Level,
    Limit,
    Output,
    Warm,
)
from curricle.languages.evaluation import Evaluation, Finding, TestResult, TestStatus
from curricle.languages.mutation import Edit, Mutant, Operator, OperatorTable, Site
from curricle.languages.project import Changes, Layout, Prepared, Project
from curricle.languages.tasks import BugTask, Patch, ProjectMutant
from curricle.languages.toolchain import Tool
from curricle.languages.trials import Trial, TrialResult

__all__ = [
    "CACHE",
    "REPORT",
    "WARM_SERVER",
    "WORK",
    "BugTask",
    "Canaries",
    "Changes",
    "Command",
    "Comparison",
    "Curriculum",
    "DataError",
    "Edit",
    "Evaluation",
    "Finding",
    "LanguageBackend",
    "Layout",
    "Level",
    "Limit",
    "Mutant",
    "MutationTool",
    "Operator",
    "OperatorTable",
    "Output",
    "Patch",
    "Prepared",
    "Project",
    "ProjectMutant",
    "Site",
    "TestResult",
    "TestStatus",
    "Tool",
    "ToolSpec",
    "Trial",
    "TrialResult",
    "Warm",
]
