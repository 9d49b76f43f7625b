"""Does the plan fit this machine: folders, disk, memory."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curricle.checkpoints.store import storage_errors
from curricle.errors import ConfigError, StoreError
from curricle.planning.plan import StagePlan

logger = logging.getLogger(__name__)

_UNLIMITED = 1 << 60  # cgroups v1 writes "no limit" as a number close to 2^63
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def check_resources(
    plans: tuple[StagePlan, ...], parameters: Mapping[str, Any], catalog: Any
) -> None:
    """Refuse a run that this machine cannot hold.

    Raises:
        StoreError: the store or a data folder cannot be written, or the disk is too small.
        ConfigError: a stage's model state alone is larger than the memory.
    """
    store = Path(parameters["run"]["store"])
    for folder in {store, *_data_folders(catalog, plans)}:
        check_writable(folder)
    if not Path("/dev/nvidia0").exists():  # a GPU has its own memory, and child jobs free it
        check_memory(plans, memory_bytes())
    check_disk(store, sum(plan.disk_bytes for plan in plans))


def check_writable(folder: Path) -> None:
    """Write a file into ``folder``, made when missing, and take it away again.

    Raises:
        StoreError: it cannot be written; says why.
    """
    try:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (NotADirectoryError, FileExistsError) as error:
        raise StoreError(
            f"{error.filename or folder} is a file where a folder is needed. Move it away, or set "
            f"another place: `store` in conf/base/parameters/run.yml, `data` in "
            f"conf/base/globals.yml."
        ) from error


def check_disk(folder: Path, needed: int) -> None:
    """Compare the free disk below ``folder`` with what the plan needs.

    Raises:
        StoreError: it is too small; with both numbers.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"The plan needs {human(needed)} in {folder}, and {human(free)} are free. "
            f"`kedro curricle gc` lists what no checkpoint needs; or lower run.keep_checkpoints, "
            f"or set another place: `store` in conf/base/parameters/run.yml."
        )


def check_memory(plans: tuple[StagePlan, ...], total: int) -> None:
    """Compare each stage's estimate with the memory; say so when only the activations are too much.

    Raises:
        ConfigError: weights, gradients and optimizer of a stage do not fit, whatever is lowered.
    """
    for plan in plans:
        if plan.state_bytes > total:
            raise ConfigError(
                f"{plan.stage}: {plan.parameters:,} parameters need {human(plan.state_bytes)} for "
                f"weights, gradients and AdamW alone, and this machine has {human(total)}. Take a "
                f"smaller pretrain.prepare.architecture, or a larger machine (--env)."
            )
        if plan.memory_bytes > total:
            logger.warning(
                "%s may need %s of memory, and there are %s; set "
                "%s.train.per_device_train_batch_size lower if it runs out",
                plan.stage, human(plan.memory_bytes), human(total), plan.stage,
            )  # fmt: skip


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or its control group's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):
            continue
        if limit < _UNLIMITED:
            total = min(total, limit)
    return total


def human(size: float) -> str:
    """Return a size in bytes for a reader, for example ``1.5 GB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 (the base of the units)
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _data_folders(catalog: Any, plans: tuple[StagePlan, ...]) -> set[Path]:
    """Return the folders of the planned stages' certificates and gate reports."""
    names = [f"{plan.stage}_{kind}" for plan in plans for kind in ("checkpoint", "gate_report")]
    folders = set()
    for name in names:
        dataset = catalog.get(name)
        path = getattr(dataset, "_path", None) or getattr(dataset, "_filepath", None)
        if path is not None:
            folders.add(Path(path).parent)
    return folders
