"""How executions are run. Nothing here decides a result, so nothing here is in a fingerprint."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curricle.config.base import Parameters


class ExecutorParameters(Parameters):
    """Where and how many executions run at a time.

    Attributes:
        backend: ``local`` processes, or ``ray`` for a cluster (the extra ``ray``).
        workers: processes that evaluate at a time; ``None`` takes the cores that the operating
            system grants this process, or with Ray those of the cluster.
        retries: how often a fault of the infrastructure is tried again before it is masked.
        item_timeout_s: seconds that one item may take before its worker is killed. A last resort:
            limits of the sandbox end a candidate long before, as an ordinary result.
        ray_address: the cluster to join, such as ``auto``; ``None`` takes ``RAY_ADDRESS``, or
            starts one on this machine.
    """

    backend: Literal["local", "ray"] = "local"
    workers: int | None = Field(default=None, ge=1)
    retries: int = Field(default=2, ge=0)
    item_timeout_s: float = Field(default=600.0, gt=0)
    ray_address: str | None = None
