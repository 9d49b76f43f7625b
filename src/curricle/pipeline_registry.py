"""The project's pipelines by name, built on demand.

Kedro reads the result by key for a run and as a whole for ``registry list`` and Viz, so a lazy
mapping makes ``kedro run --pipelines sft`` build ``sft`` alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from kedro.pipeline import Pipeline

if TYPE_CHECKING:
    from curricle.stages.spec import StageSpec

STAGES = ("pretrain", "sft", "dpo", "lora")
"""The stages of the general curriculum, in order."""

_OWN = ("corpus", *STAGES, "foundation", "report")
_SUMS = {
    "general": ("corpus", *STAGES),
    "__default__": ("general", "report"),
}


class Registry(Mapping[str, Pipeline]):
    """Pipelines by name; each is built when it is first asked for."""

    @cached_property
    def _built(self) -> dict[str, Pipeline]:
        return {}

    def __getitem__(self, name: str) -> Pipeline:
        if name not in self._built:
            self._built[name] = self._build(name)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        yield from sorted((*_OWN, *_SUMS))

    def __len__(self) -> int:
        return len(_OWN) + len(_SUMS)

    def _build(self, name: str) -> Pipeline:
        if name in _SUMS:
            return Pipeline([self[part] for part in _SUMS[name]])
        if name not in _OWN:
            raise KeyError(name)
        module = importlib.import_module(f"curricle.pipelines.{name}.pipeline")
        built: Pipeline = module.create_pipeline()
        return built


def stage_specs() -> tuple[StageSpec, ...]:
    """Return the description of every stage, in curriculum order."""
    from curricle.pipelines.curricula import GENERAL

    return GENERAL


def register_pipelines() -> Mapping[str, Pipeline]:
    """Return the registry that Kedro asks for."""
    return Registry()
