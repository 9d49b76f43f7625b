"""Says what runs, one short line a node."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


def announce(name: str) -> None:
    """Log that a node begins."""
    logger.info("%s", name)
