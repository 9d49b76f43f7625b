"""What a run reads but does not make must be there; otherwise somebody else makes it first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kedro.pipeline import Pipeline


def missing_inputs(
    pipeline: Pipeline, catalog: Any, pipelines: Mapping[str, Pipeline]
) -> Iterator[str]:
    """Yield a message for each free input that does not exist, naming the pipeline that makes it.

    Raises:
        StoreError: one is there but was edited, or what it names is gone; the dataset's own words.
    """
    for name in sorted(pipeline.inputs()):
        if _is_parameter(name) or catalog.exists(name):
            continue
        makers = [
            key for key, made in pipelines.items() if name in made.all_outputs() and key[:2] != "__"
        ]
        if not makers:
            yield f"{name} is missing, and no pipeline makes it. Put it where the catalog says."
            continue
        if _is_on_disk(catalog, name):
            catalog[name].load()  # it knows better than we do what is wrong with it
        maker = min(makers, key=lambda key: len(pipelines[key].nodes))
        yield (
            f"{name} is missing: the pipeline {maker} makes it. Run it first: "
            f"kedro run --pipelines {maker}"
        )


def _is_on_disk(catalog: Any, name: str) -> bool:
    path = getattr(catalog[name], "_path", None)
    return path is not None and path.exists()


def _is_parameter(name: str) -> bool:
    return name == "parameters" or name.startswith("params:")
