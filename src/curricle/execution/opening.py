"""The one way to a sandbox: by parameters, probed, and refused rather than weakened."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from curricle.config.execution import SandboxParameters
from curricle.errors import SandboxUnavailable
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.gvisor import RunscSandbox, runsc_path
from curricle.execution.probe import probe_once
from curricle.execution.sandbox import Sandbox, SandboxLevel
from curricle.execution.unsafe_local import UnsafeLocalSandbox
from curricle.execution.wall import bwrap_path

_logger = logging.getLogger(__name__)
ACKNOWLEDGEMENT = ("CURRICLE_UNSAFE", "i-know")
"""What the environment must hold before anything runs without isolation."""


def open_sandbox(parameters: SandboxParameters) -> Sandbox:
    """The sandbox that the parameters ask for, after it has proven itself on this machine.

    Raises:
        SandboxUnavailable: It is weaker than `min_level`, or did not hold; names what failed and
            what to change. Nothing weaker is tried.
    """
    backend = parameters.backend
    least = SandboxLevel[parameters.min_level.upper()]
    if backend == "auto":
        backend = "runsc" if least is SandboxLevel.STRONG else "bubblewrap"
    if backend == "unsafe_local":
        return _unsafe(least)
    sandbox, program = _sandbox(backend)
    if sandbox.level < least:
        raise SandboxUnavailable(
            f"sandbox.backend {backend} gives the level {sandbox.level.name.lower()}, and "
            f"sandbox.min_level asks for {parameters.min_level}. Set sandbox.backend: runsc, or "
            "a lower sandbox.min_level."
        )
    report = probe_once(sandbox, program)
    if report.failures:
        sandbox.close()
        raise SandboxUnavailable(_refusal(backend, program, report.failures))
    return sandbox


def _sandbox(backend: str) -> tuple[Sandbox, Path]:
    if backend == "runsc":
        return RunscSandbox(), runsc_path()
    return BubblewrapSandbox(), bwrap_path()


def _unsafe(least: SandboxLevel) -> Sandbox:
    name, value = ACKNOWLEDGEMENT
    if os.environ.get(name) != value or least is not SandboxLevel.NONE:
        raise SandboxUnavailable(
            "sandbox.backend unsafe_local runs what a model wrote with all your rights. If that is "
            f"what you want, set sandbox.min_level: none and {name}={value} in the environment."
        )
    _logger.warning("sandbox unsafe_local: nothing is isolated, and every record says so")
    return UnsafeLocalSandbox()


def _refusal(backend: str, program: Path, failures: tuple[str, ...]) -> str:
    """What failed, and the three ways out."""
    return (
        f"The sandbox {backend} does not hold on this machine, so nothing is run. Failed: "
        f"{'; '.join(failures)}.\n"
        "  1. Allow user namespaces: sudo sysctl -w user.max_user_namespaces=28633 "
        "kernel.unprivileged_userns_clone=1. In a container: --security-opt seccomp=unconfined "
        "--security-opt systempaths=unconfined, or run as an unprivileged user.\n"
        "  2. Where AppArmor restricts them (Ubuntu 23.10 and newer), allow this program: write "
        f"'abi <abi/4.0>, include <tunables/global> profile curricle-bwrap {program} "
        "flags=(unconfined) { userns, }' to /etc/apparmor.d/curricle-bwrap and run "
        "sudo apparmor_parser -r /etc/apparmor.d/curricle-bwrap.\n"
        "  3. Use another isolation: install gVisor (runsc) and set sandbox.backend: runsc."
    )
