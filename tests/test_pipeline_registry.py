"""Every registered pipeline can be built, lightly."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from kedro.pipeline import Pipeline

from curricle.pipeline_registry import STAGES, register_pipelines, stage_specs

HEAVY = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "datatrove", "pandas")

_BLOCKED = """
import sys
HEAVY = set(sys.argv[1].split(","))

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Blocker())
import curricle.cli, curricle.cli.run, curricle.cli.curriculum, curricle.hooks, curricle.settings
from curricle.pipeline_registry import register_pipelines, stage_specs
assert stage_specs()
assert len(dict(register_pipelines())) > 5
"""


def test_commands_settings_and_every_pipeline_import_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKED, ",".join(HEAVY)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(register_pipelines()))
def test_a_registered_pipeline_can_be_built(name: str) -> None:
    assert isinstance(register_pipelines()[name], Pipeline)


def test_a_pipeline_is_built_when_it_is_asked_for_and_not_before() -> None:
    pipelines = register_pipelines()
    assert pipelines["corpus"] is pipelines["corpus"]
    with pytest.raises(KeyError):
        pipelines["no_such_pipeline"]


def test_the_stages_are_in_the_order_of_their_parents() -> None:
    names = [spec.name for spec in stage_specs()]
    assert tuple(names[: len(STAGES)]) == STAGES
    for spec in stage_specs():
        assert spec.parent is None or names.index(spec.parent) < names.index(spec.name)


def test_each_stage_reads_its_parent_only_through_the_gate() -> None:
    everything = register_pipelines()["__default__"]
    for spec in stage_specs():
        makers = [n for n in everything.nodes if f"{spec.name}_checkpoint" in n.outputs]
        assert [node.name for node in makers] == [f"gate_{spec.name}"]
        readers = [
            n for n in everything.nodes
            if f"{spec.name}_candidate" in n.inputs and "report" not in n.tags
        ]  # fmt: skip
        assert {spec.name} == {node.namespace or node.name.removeprefix("gate_")
                               for node in readers}  # fmt: skip


def test_every_curriculum_dataset_has_a_place_in_the_catalog() -> None:
    import yaml

    entries = {}
    for path in Path("conf/base/catalog").glob("*.yml"):
        entries |= yaml.safe_load(path.read_text())
    places = [re.compile(re.sub(r"\{\w+\}", r"\\w+", key.replace(".", r"\."))) for key in entries]
    for name in register_pipelines()["__default__"].all_outputs():
        assert any(place.fullmatch(name) for place in places), name
