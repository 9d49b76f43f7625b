"""What a report leaves behind: each artefact is one function of what stands.

The report pipeline makes them as nodes; after a run that failed, the hook makes the same ones, by
the same functions, from what there is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kedro.io import DatasetError

from curricle.errors import CurricleError
from curricle.reporting.curves import curriculum_curves
from curricle.reporting.document import curriculum_report
from curricle.reporting.retention import (
    retention_curves,
    retention_numbers,
    retention_table,
)
from curricle.reporting.state import StageState
from curricle.reporting.table import curriculum_table

logger = logging.getLogger(__name__)

ARTEFACTS: dict[str, Callable[[tuple[StageState, ...]], Any]] = {
    "curriculum_table": curriculum_table,
    "curriculum_curves": curriculum_curves,
    "curriculum_retention": retention_table,
    "curriculum_retention_numbers": retention_numbers,
    "curriculum_retention_curves": retention_curves,
    "curriculum_report": curriculum_report,
}
"""Dataset to the function that makes its content."""


def write_artefacts(catalog: Any, states: tuple[StageState, ...]) -> None:
    """Write every artefact; one that cannot be written must not hide how the run ended."""
    for name, make in ARTEFACTS.items():
        try:
            catalog[name].save(make(states))
        except (CurricleError, DatasetError, OSError) as error:
            logger.warning("%s could not be written: %s", name, error)
