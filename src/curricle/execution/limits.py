"""The bounds of one run."""

from curricle.config.execution import MIB, Limits

__all__ = ["MIB", "Limits"]
