"""Whether the code of a language can be run on this machine: its tools, and a sandbox that holds.

Asked before anything long starts: an agent that was trained for an hour is of no use on a machine
that cannot run a test.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kedro.pipeline import Pipeline

from curricle.config.execution import SandboxParameters
from curricle.errors import ToolMissing
from curricle.execution.opening import open_sandbox
from curricle.execution.toolchain import check_toolchain
from curricle.languages.backend import LanguageBackend
from curricle.languages.registry import working_backends

logger = logging.getLogger(__name__)


def check_execution(pipeline: Pipeline, parameters: Mapping[str, Any]) -> None:
    """Refuse a run that needs what is not here; a run that executes no code is not asked.

    Args:
        pipeline: what is about to run; a node that reads a language's projects runs its code.
        parameters: nested; ``sandbox`` among them.

    Raises:
        ToolMissing: tools that a language cannot do without; each with the version that is wanted
            and the command that installs it.
        SandboxUnavailable: no sandbox of the wanted level holds on this machine.
    """
    backends = executed_languages(pipeline)
    if not backends:
        return
    check_toolchains(backends)
    open_sandbox(SandboxParameters.model_validate(parameters.get("sandbox", {}))).close()


def executed_languages(pipeline: Pipeline) -> list[LanguageBackend]:
    """Return the installed languages whose projects a pipeline reads."""
    read = {name for node in pipeline.nodes for name in node.inputs}
    return [backend for name, backend in sorted(working_backends().items())
            if f"{name}_projects" in read]  # fmt: skip


def check_toolchains(backends: Sequence[LanguageBackend]) -> None:
    """Look for the tools of languages, and say what cannot be measured without the optional ones.

    Raises:
        ToolMissing: names all that is missing, of all languages.
    """
    missing = []
    for backend in backends:
        try:
            found = check_toolchain(backend)
        except ToolMissing as error:
            missing.append(str(error))
            continue
        for what, why in found.not_measured.items():
            logger.warning("%s: %s: not measured. %s", backend.name, what, why)
    if missing:
        raise ToolMissing("\n".join(missing) + "\nNothing has run.")
