"""Every environment's parameters, checked by the types of the nodes that receive them."""

from __future__ import annotations

from typing import Any

import pytest

from curricle.config.corpus import IngestParameters
from curricle.config.training import PretrainParameters
from curricle.errors import ConfigError
from tests.config.environments import PROJECT, block, parameters, typed_blocks

ENVIRONMENTS = ["base", "test", "workstation", "a100", "h100"]
NEEDS_A_REVISION = ["a100", "h100"]


def with_revisions(loaded: dict[str, Any]) -> dict[str, Any]:
    for source in loaded["corpus"]["ingest"]["sources"]:
        source["revision"] = "0" * 40
    return loaded


def test_every_environment_on_disk_is_checked_here() -> None:
    folders = {path.name for path in (PROJECT / "conf").iterdir() if path.is_dir()}
    assert folders - {"local"} == set(ENVIRONMENTS)


def test_every_stage_has_typed_blocks() -> None:
    assert {"run", "corpus.ingest", "gates.lora"} <= set(typed_blocks())
    assert typed_blocks()["pretrain.train"] is PretrainParameters


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_fits_the_typed_models(environment: str) -> None:
    loaded = parameters(environment)
    if environment in NEEDS_A_REVISION:
        loaded = with_revisions(loaded)
    for name, model in typed_blocks().items():
        model.model_validate(block(loaded, name))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_names_no_block_that_nobody_reads(environment: str) -> None:
    loaded = parameters(environment)
    read = set(typed_blocks())
    named = {f"{top}.{key}" for top, keys in loaded.items() if top not in read for key in keys}
    assert named <= read


@pytest.mark.parametrize("environment", NEEDS_A_REVISION)
def test_a_hub_source_without_a_revision_stops_the_run_and_says_so(environment: str) -> None:
    ingest = block(parameters(environment), "corpus.ingest")
    with pytest.raises(ConfigError, match=r"'HuggingFaceFW/fineweb-edu' has no `revision`"):
        IngestParameters.model_validate(ingest)


@pytest.mark.parametrize("environment", NEEDS_A_REVISION)
def test_the_7b_environments_change_what_they_mean_to_change(environment: str) -> None:
    loaded = with_revisions(parameters(environment))
    assert loaded["pretrain"]["prepare"]["architecture"] == "llama_7b"
    lengths = [stage["seq_length"] for stage in loaded["corpus"]["pack"]["curriculum"]]
    assert lengths == [512, 1024, 2048]
    for stage in ("pretrain", "sft", "dpo", "lora"):
        assert loaded[stage]["train"]["precision"] == "bf16"
        assert loaded[stage]["train"]["max_steps"] is None


@pytest.mark.parametrize("environment", ENVIRONMENTS[1:])
def test_an_environment_keeps_its_results_apart(environment: str) -> None:
    stores = {name: parameters(name)["run"]["store"] for name in ("base", environment)}
    assert stores["base"] != stores[environment]
