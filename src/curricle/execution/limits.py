"""The bounds of one run."""

from __future__ import annotations

from pydantic import Field

from curricle.config.base import Parameters

MIB = 1 << 20


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
