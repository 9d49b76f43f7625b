"""Fixtures."""

from tests.fabricated import project

__all__ = ["project"]
