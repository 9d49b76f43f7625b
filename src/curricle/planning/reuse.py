"""Which nodes would find their result in the store: the run itself, with building forbidden.

The nodes run as they are, so the answer is what the run would do and no second opinion on it. A
node whose input would be made anew would make its own anew.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from kedro.io import DatasetError
from kedro.pipeline import Pipeline

from curricle.checkpoints.store import NotStored, only_stored
from curricle.errors import CurricleError, GateClosed
from curricle.launch.precision import precision_record
from curricle.stages.spec import StageSpec

Verdict = Literal["reused", "made", "closed"]


def node_verdicts(
    pipeline: Pipeline, catalog: Any, specs: tuple[StageSpec, ...]
) -> dict[str, Verdict]:
    """Return what would happen at each node that goes through the store, by the node's name.

    Args:
        pipeline: what would run.
        catalog: Kedro's, with the parameters in it.
        specs: the stages; a node outside them and the corpus is not tried, for it may do anything.
    """
    known = {"corpus", *(spec.name for spec in specs)}
    made: dict[str, Any] = {}
    verdicts: dict[str, Verdict] = {}
    with only_stored(), _quietly():
        for node in pipeline.nodes:
            if not known & node.tags:
                continue
            try:
                made |= node.run({name: _value(name, made, catalog) for name in node.inputs})
            except GateClosed:
                verdicts[node.name] = "closed"
            except (NotStored, CurricleError, DatasetError):
                verdicts[node.name] = "made"
            else:
                verdicts[node.name] = "reused"
            if verdicts[node.name] != "reused":
                made |= dict.fromkeys(node.outputs, NotStored)
    return verdicts


def precision_is_known(parameters: dict[str, Any]) -> bool:
    """Return whether fingerprints can be computed: ``precision: auto`` is measured by a first run.

    Measuring imports torch, which a plan never does.
    """
    return precision_record(Path(parameters["run"]["store"])).exists()


def _value(name: str, made: dict[str, Any], catalog: Any) -> Any:
    value = made[name] if name in made else catalog[name].load()
    if value is NotStored:
        raise NotStored(name)
    return value


@contextmanager
def _quietly() -> Iterator[None]:
    """Nothing happens, so nothing is announced."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
