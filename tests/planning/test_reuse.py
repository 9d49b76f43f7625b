"""What a plan says about reuse is what the run would do."""

from __future__ import annotations

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from curricle.checkpoints.store import NotStored, Store, only_stored
from curricle.errors import GateClosed
from curricle.planning.reuse import node_verdicts
from tests.fabricated import Project, specs


def test_a_store_that_may_not_build_raises_instead(project: Project) -> None:
    with only_stored(), pytest.raises(NotStored):
        project.stored("sft.train", model__txt="new")
    assert not (project.store.root / "sft.train").exists()


def test_nodes_above_a_change_are_reused_and_all_below_are_made(project: Project) -> None:
    project.stored("sft.data", data__txt="kept")

    def prepare() -> str:
        return project.stored("sft.data", data__txt="kept").digest

    def train(data: str) -> str:
        return project.stored("sft.train", model__txt="changed", salt=data).digest

    def never(trained: str) -> None:
        pytest.fail("a node below a result that is missing ran")

    pipeline = Pipeline(
        [
            Node(prepare, None, "data", name="prepare", tags="sft"),
            Node(train, "data", "trained", name="train", tags="sft"),
            Node(never, "trained", "judged", name="judge", tags="sft"),
        ]
    )
    verdicts = node_verdicts(pipeline, DataCatalog(), specs())
    assert verdicts == {"prepare": "reused", "train": "made", "judge": "made"}


def test_a_gate_that_would_close_is_said(project: Project) -> None:
    def gate() -> str:
        raise GateClosed("refusal_rate 0.1 < 0.9")

    pipeline = Pipeline([Node(gate, None, "checkpoint", name="gate_sft", tags="sft")])
    assert node_verdicts(pipeline, DataCatalog(), specs()) == {"gate_sft": "closed"}


def test_a_node_outside_the_stages_is_not_tried() -> None:
    def anything(x: int) -> None:
        pytest.fail("it ran")

    pipeline = Pipeline([Node(anything, "x", None, name="anything")])
    assert node_verdicts(pipeline, DataCatalog({"x": MemoryDataset(1)}), specs()) == {}


def test_building_is_allowed_again_after_a_plan(project: Project) -> None:
    with only_stored():
        pass
    assert isinstance(project.store, Store)
    assert project.stored("sft.train", model__txt="new").path.exists()
