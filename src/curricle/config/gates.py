"""The policy of a gate: thresholds as data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, RootModel, model_validator

from curricle.config.base import Parameters


class GateCheck(Parameters):
    """One threshold on one metric.

    Attributes:
        min: the metric may not be below; or, with ``relative_to``, not below this multiple.
        max: the metric may not be above; or, with ``relative_to``, not above this multiple.
        severity: ``block`` closes the gate, ``warn`` only says so.
        relative_to: an earlier stage, whose value of the same metric is the unit: with
            ``max: 1.10`` a perplexity may rise by 10% over what that stage left.
    """

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    severity: Literal["block", "warn"] = "block"
    relative_to: str | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> GateCheck:
        if self.min is None and self.max is None:
            raise ValueError("a check needs `min`, `max` or both")
        return self


class GatePolicy(RootModel[dict[str, GateCheck]]):
    """The checks of one gate, by metric. It judges nothing that it does not name."""
