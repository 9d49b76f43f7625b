"""The project's pipelines by name, built on demand.

Kedro reads the result by key for a run and as a whole for ``registry list`` and Viz, so a lazy
mapping makes ``kedro run --pipelines sft`` build ``sft`` alone.

Each installed language brings pipelines of its own: ``tasks_python``, ``lang_python`` and so on. A
language plugin that does not work is left out, and its pipelines raise when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kedro.pipeline import Pipeline

if TYPE_CHECKING:
    from curricle.stages.spec import StageSpec

STAGES = ("pretrain", "sft", "dpo", "lora")
"""The stages of the general curriculum, in order."""

_OWN = ("corpus", *STAGES, "report")
_SUMS = {"general": ("corpus", *STAGES)}
_OF_AGENTS = ("foundation", "coding_tui", "agent", "__default__")
_PER_LANGUAGE = {"tasks": "tasks", "lang": "language", "eval": "evaluation"}
"""The pipelines of each language: prefix of the name, and the package that makes them."""


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
        yield from sorted({*_OWN, *_SUMS, *_of_languages(), *_OF_AGENTS, *_agent_stages()})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _build(self, name: str) -> Pipeline:
        if name in _SUMS:
            return Pipeline([self[part] for part in _SUMS[name]])
        if name in _OF_AGENTS:
            build = (self._foundation, self._coding_tui, self._agent, self._default)
            return dict(zip(_OF_AGENTS, build, strict=True))[name]()
        if name in (stages := _agent_stages()):
            return stage_pipeline_of(stages[name])
        kind, _, language = name.partition("_")
        if language and kind in _language_packages():
            return _build_for(language, kind, name)
        if name not in _OWN:
            raise KeyError(name)
        module = importlib.import_module(f"curricle.pipelines.{name}.pipeline")
        built: Pipeline = module.create_pipeline()
        return built

    def _coding_tui(self, after: str | None = None) -> Pipeline:
        """The agent of all languages, with what it stands on, so that it runs by itself."""
        from curricle.languages.registry import working_backends
        from curricle.pipelines.coding_tui.pipeline import create_pipeline

        return self._foundation(after) + create_pipeline(sorted(working_backends()))

    def _foundation(self, after: str | None = None) -> Pipeline:
        """The foundation, with the corpus and the tasks that it is measured on."""
        from curricle.languages.registry import working_backends
        from curricle.pipelines.foundation.pipeline import create_pipeline

        languages = sorted(working_backends())
        tasks = [self[f"tasks_{language}"] for language in languages]
        # `+`, unlike a list of pipelines, takes a node that several of them share once.
        return sum([self["corpus"], create_pipeline(languages, after), *tasks], Pipeline([]))

    def _agent(self, after: str | None = None) -> Pipeline:
        """The agent of all languages, their own curricula, and their evaluation at the end."""
        parts = [self._coding_tui(after)]
        for name in _of_languages():
            kind, _, language = name.partition("_")
            waits = {"after": f"lang_{language}_grpo"} if kind == "eval" else {}
            parts.append(_build_for(language, kind, name, **waits))
        return sum(parts, Pipeline([]))

    def _default(self) -> Pipeline:
        """All curricula and reports; the agent's foundation waits for the general one."""
        return self["general"] + self["report"] + self._agent(after=STAGES[-1])


def _agent_stages() -> dict[str, StageSpec]:
    """The stages of agents by name: each is a pipeline too, to judge or train it alone."""
    return {spec.name: spec for spec in stage_specs() if spec.name not in (*STAGES, "foundation")}


def stage_pipeline_of(spec: StageSpec) -> Pipeline:
    """Return the pipeline of one stage."""
    from curricle.stages.pipeline import stage_pipeline

    return stage_pipeline(spec)


def _language_packages() -> dict[str, str]:
    folder = Path(__file__).parent / "pipelines"
    return {
        kind: package
        for kind, package in _PER_LANGUAGE.items()
        if (folder / package / "pipeline.py").is_file()
    }


def _of_languages() -> list[str]:
    from curricle.languages.registry import working_backends

    return [f"{kind}_{name}" for kind in _language_packages() for name in working_backends()]


def _build_for(language: str, kind: str, name: str, **waits: str) -> Pipeline:
    from curricle.languages.registry import get_backend, installed_plugins

    if language not in {plugin.name for plugin in installed_plugins()}:
        raise KeyError(name)
    backend = get_backend(language)
    module = importlib.import_module(f"curricle.pipelines.{_language_packages()[kind]}.pipeline")
    built: Pipeline = module.create_pipeline(backend.name, **waits)
    return built


def stage_specs() -> tuple[StageSpec, ...]:
    """Return the description of every stage, in curriculum order."""
    from curricle.languages.registry import working_backends
    from curricle.pipelines.curricula import all_stages

    return all_stages(sorted(working_backends()))


def register_pipelines() -> Mapping[str, Pipeline]:
    """Return the registry that Kedro asks for."""
    return Registry()
