"""How executions are run: on how many workers, in which sandbox, within which bounds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curricle.config.base import Parameters

MIB = 1 << 20


class ExecutorParameters(Parameters):
    """Where and how many executions run at a time. Not in a fingerprint: it decides no result.

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


class Limits(Parameters):
    """What one run may use at most.

    Attributes:
        wall_s: Seconds from start to end.
        cpu_s: Seconds of processor time of all its processes; `None` is twice `wall_s`.
        memory_bytes: Memory of all its processes together, its temporary files included.
        pids: Processes and threads at a time.
        output_bytes: Bytes of standard output and standard error together, and of each report.
        disk_bytes: Bytes it may write into its view of the project, and as much into `/tmp`.
    """

    wall_s: float = Field(default=60.0, gt=0)
    cpu_s: float | None = Field(default=None, gt=0)
    memory_bytes: int = Field(default=1024 * MIB, ge=16 * MIB)
    pids: int = Field(default=128, ge=1)
    output_bytes: int = Field(default=4 * MIB, ge=1024)
    disk_bytes: int = Field(default=128 * MIB, ge=MIB)


class SandboxParameters(Parameters):
    """Which sandbox, how strong at least, and the bounds of a run.

    Attributes:
        backend: ``auto`` is ``bubblewrap``, or ``runsc`` (gVisor) where `min_level` asks for
            ``strong``. ``unsafe_local`` isolates nothing: it needs `min_level` ``none`` and
            ``CURRICLE_UNSAFE=i-know`` in the environment, and every record says so.
        min_level: A machine that cannot give it is refused; nothing weaker is used instead.
        limits: The bounds of a run whose caller sets no others.
    """

    backend: Literal["auto", "bubblewrap", "runsc", "unsafe_local"] = "auto"
    min_level: Literal["none", "weak", "standard", "strong"] = "standard"
    limits: Limits = Limits()
