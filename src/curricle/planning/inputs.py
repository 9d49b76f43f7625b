"""What a run reads but does not make must be there; otherwise somebody else makes it first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kedro.pipeline import Pipeline


def missing_inputs(
    pipeline: Pipeline, catalog: Any, pipelines: Mapping[str, Pipeline]
) -> Iterator[str]:
    """Yield a message for the free inputs that do not exist, naming the pipeline that makes them.

    Raises:
        StoreError: one is there but was edited, or what it names is gone; the dataset's own words.
    """
    missing: dict[str, list[str]] = {}
    for name in sorted(pipeline.inputs()):
        if _is_parameter(name) or catalog.exists(name):
            continue
        if _is_on_disk(catalog, name):
            catalog[name].load()  # it knows better than we do what is wrong with it
        missing.setdefault(_maker(name, pipelines), []).append(name)
    for maker, names in missing.items():
        are = "is" if len(names) == 1 else "are"
        if maker:
            yield (
                f"{', '.join(names)} {are} missing: the pipeline {maker} makes "
                f"{'it' if len(names) == 1 else 'them'}. Run it first: "
                f"kedro run --pipelines {maker}"
            )
        else:
            yield (
                f"{', '.join(names)} {are} missing, and no pipeline makes them. Put them where "
                f"the catalog says."
            )


def unordered_evaluations(pipeline: Pipeline, parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for an evaluation that would not wait for the curriculum beside it.

    Without a checkpoint of its own it measures what the language's last gate certified; in a run
    of ``lang_x,eval_x`` nothing makes it wait for that gate, and it would measure an earlier run.
    """
    if parameters.get("evaluation", {}).get("checkpoint"):
        return
    nodes = {node.name: node for node in pipeline.nodes}
    for name in sorted(nodes):
        kind, _, language = name.removesuffix(".find").partition("_")
        if kind != "eval" or not name.endswith(".find"):
            continue
        last = f"lang_{language}_grpo"
        if f"gate_{last}" in nodes and f"{last}_checkpoint" not in nodes[name].inputs:
            yield (
                f"eval_{language} would measure the {last} of an earlier run: it does not wait for "
                f"the one beside it. Run both with --pipelines agent, or one after the other."
            )


def _maker(name: str, pipelines: Mapping[str, Pipeline]) -> str:
    """Return the smallest registered pipeline that makes a dataset, or nothing."""
    makers = [key for key, made in pipelines.items() if name in made.all_outputs()]
    return min(makers, key=lambda key: len(pipelines[key].nodes), default="")


def _is_on_disk(catalog: Any, name: str) -> bool:
    path = getattr(catalog[name], "_path", None)
    return path is not None and path.exists()


def _is_parameter(name: str) -> bool:
    return name == "parameters" or name.startswith("params:")
