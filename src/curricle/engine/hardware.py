"""What hardware is there. Detected, never assumed."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import warnings
from dataclasses import dataclass

import torch

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_HOPPER = (9, 0)
_AMPERE = (8, 0)


@dataclass(frozen=True)
class GPUInfo:
    """The accelerator of this process.

    Attributes:
        tier: ``h100`` (FP8 capable), ``a100`` (bf16 capable), ``other`` or ``cpu``.
        name: the device's own name.
        count: how many devices there are.
        memory_gb: memory of one device, in GiB; 0 for a CPU.
        capability: CUDA compute capability.
    """

    tier: str
    name: str
    count: int = 0
    memory_gb: float = 0.0
    capability: tuple[int, int] = (0, 0)


def detect_gpu_type() -> GPUInfo:
    """Describe the first CUDA device, or the CPU when there is none."""
    if not torch.cuda.is_available():
        return GPUInfo(tier="cpu", name="cpu")
    properties = torch.cuda.get_device_properties(0)
    capability = (properties.major, properties.minor)
    if capability >= _HOPPER:
        tier = "h100"
    elif capability >= _AMPERE:
        tier = "a100"
    else:
        tier = "other"
    memory_gb = properties.total_memory / 2**30
    return GPUInfo(tier, properties.name, torch.cuda.device_count(), memory_gb, capability)


def device() -> torch.device:
    """Return the device that a job of this process computes on."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def _keep_freed_memory() -> None:
    """Make glibc reuse freed blocks instead of giving them back to the system.

    A training step frees and asks for the same large blocks over and over; mapping them anew costs
    a page fault for every 4 KiB: measured, an eighth of a step of the small model, and four times
    fewer faults without it.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library: nothing to set
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def release_freed_memory() -> None:
    """Give back what was freed and kept: blocks of one job seldom fit the next one's."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def setup_torch_backends() -> None:
    """Set what PyTorch leaves to the program: TF32 on GPUs, and quiet, deterministic set-up."""
    torch.set_float32_matmul_precision("high" if torch.cuda.is_available() else "highest")
    _keep_freed_memory()
    # Raised once per process about a CUDA build on a machine without a driver: nothing to mend.
    warnings.filterwarnings("ignore", message=".*CUDA initialization.*")
