"""Says what a run reaches. The store already says what is made and reused; a gate is news."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from curricle.checkpoints.certificate import Certificate

logger = logging.getLogger(__name__)


def announce(outputs: Mapping[str, Any]) -> None:
    """Log that a gate opened, when a node's outputs say so."""
    for made in outputs.values():
        if isinstance(made, Certificate):
            logger.info("%s: the gate is open, certificate %s", made.stage, made.hash[:12])
