"""A stage as Kedro runs it: its nodes, its gate, and what each verdict leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro_datasets.json import JSONDataset

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.datasets import CertificateDataset, StoredDataset
from curricle.checkpoints.store import Built, Store, Stored
from curricle.config.base import RunSettings
from curricle.config.gates import GatePolicy
from curricle.config.training import EvaluateParameters, ModelConfig, PretrainParameters
from curricle.errors import GateClosed, GateStale
from curricle.pipeline_registry import STAGES, register_pipelines
from curricle.pipelines.lora.pipeline import LORA
from curricle.pipelines.pretrain.pipeline import PRETRAIN
from curricle.pipelines.sft.pipeline import SFT
from curricle.stages.pipeline import stage_pipeline
from tests.engine.conftest import OVERRIDES

OPEN = GatePolicy.model_validate({"perplexity": {"max": 600}})
CLOSED = GatePolicy.model_validate(
    {"perplexity": {"max": 2}, "next_token_accuracy": {"min": 0.99, "severity": "warn"}}
)


def stored(root: Path, step: str, folder: Path) -> Stored:
    """A folder as a result of the store."""

    def build(result: Path, resume: Path) -> Built:
        shutil.copytree(folder, result, dirs_exist_ok=True)
        return Built()

    return Store(root).obtain(step, {"of": step}, build)


class TestTheGrammar:
    @pytest.mark.parametrize("spec", [PRETRAIN, SFT, LORA], ids=lambda spec: spec.name)
    def test_four_nodes_live_in_the_namespace_and_the_gate_outside(self, spec: Any) -> None:
        nodes = {node.name: node for node in stage_pipeline(spec).nodes}
        inside = {f"{spec.name}.{step}" for step in ("prepare", "train", "evaluate", "judge")}
        assert set(nodes) == inside | {f"gate_{spec.name}"}
        assert {name for name, node in nodes.items() if node.namespace == spec.name} == inside

    @pytest.mark.parametrize("stage", STAGES)
    def test_only_the_gate_writes_the_checkpoint(self, stage: str) -> None:
        pipeline = register_pipelines()["general"]
        writers = [n.name for n in pipeline.nodes if f"{stage}_checkpoint" in n.outputs]
        assert writers == [f"gate_{stage}"]

    @pytest.mark.parametrize("stage", STAGES)
    def test_judge_and_gate_can_be_run_alone(self, stage: str) -> None:
        pipeline = register_pipelines()[stage].only_nodes_with_tags("gate")
        assert {node.name for node in pipeline.nodes} == {f"{stage}.judge", f"gate_{stage}"}
        assert all(stage in node.tags for node in register_pipelines()[stage].nodes)

    @pytest.mark.parametrize(("stage", "parent"), list(zip(STAGES[1:], STAGES, strict=False)))
    def test_a_stage_reads_of_its_parent_only_what_the_gate_wrote(
        self, stage: str, parent: str
    ) -> None:
        inputs = register_pipelines()[stage].inputs()
        of_parent = {name for name in inputs if name.startswith(f"{parent}_")}
        assert of_parent - {"sft_data"} == {f"{parent}_checkpoint"}

    def test_the_sum_of_the_stages_has_no_loose_ends(self) -> None:
        general = register_pipelines()["general"]
        assert all(name.startswith("params:") for name in general.inputs())
        assert {f"{stage}_checkpoint" for stage in STAGES} <= general.all_outputs()

    def test_each_stage_validates_its_own_parameters(self) -> None:
        for spec in (PRETRAIN, SFT, LORA):
            train = next(n for n in stage_pipeline(spec).nodes if n.name.endswith(".train"))
            assert train.func.__annotations__["parameters"] is spec.parameters


@pytest.fixture
def catalog(packed: Path, tokenizer_folder: Path, tmp_path: Path) -> DataCatalog:
    """A catalog of files for pretraining on the tiny corpus, three steps long."""
    run = RunSettings(store=tmp_path / "store", launch="in_process", threads=1)
    memory = {
        "corpus_tokenizer": stored(run.store, "corpus.tokenizer", tokenizer_folder),
        "corpus_packed": stored(run.store, "corpus.pack", packed),
        "params:run": run,
        "params:pretrain.prepare": ModelConfig(architecture="llama_small", overrides=OVERRIDES),
        "params:pretrain.train": PretrainParameters(
            learning_rate=5e-3, tokens_per_step=512, max_steps=3, precision="fp32"
        ),
        "params:pretrain.evaluate": EvaluateParameters(max_rows=2),
        "params:gates.pretrain": OPEN,
    }
    files: dict[str, Any] = {
        name: StoredDataset(filepath=str(tmp_path / f"{name}.json"))
        for name in ("pretrain_initial", "pretrain_candidate")
    }
    for name in ("pretrain_metrics", "pretrain_gate_report"):
        files[name] = JSONDataset(filepath=str(tmp_path / f"{name}.json"))
    path = tmp_path / "pretrain_checkpoint.json"
    files["pretrain_checkpoint"] = CertificateDataset(filepath=str(path))
    held = {name: MemoryDataset(value, copy_mode="assign") for name, value in memory.items()}
    return DataCatalog({**held, **files})


def judge_by(catalog: DataCatalog, policy: GatePolicy) -> None:
    catalog["params:gates.pretrain"] = MemoryDataset(policy, copy_mode="assign")


class TestARun:
    def test_an_open_gate_certifies_the_candidate(self, catalog: DataCatalog) -> None:
        SequentialRunner().run(stage_pipeline(PRETRAIN), catalog)
        certificate: Certificate = catalog.load("pretrain_checkpoint")
        assert certificate.candidate == catalog.load("pretrain_candidate")
        assert certificate.report == catalog.load("pretrain_gate_report")
        assert certificate.report["passed"] and certificate.parent is None
        assert set(certificate.metrics) == {"perplexity", "next_token_accuracy"}

    def test_a_closed_gate_leaves_no_checkpoint_and_keeps_the_report(
        self, catalog: DataCatalog
    ) -> None:
        judge_by(catalog, CLOSED)
        with pytest.raises(GateClosed) as caught:
            SequentialRunner().run(stage_pipeline(PRETRAIN), catalog)
        first, *_, last = str(caught.value).splitlines()
        assert first.startswith("pretrain: gate closed: perplexity ") and first.endswith("> 2")
        assert last.endswith("kedro run --pipelines pretrain --tags gate")
        assert "next_token_accuracy" not in str(caught.value), "only a warning"
        assert not catalog.exists("pretrain_checkpoint")
        report = catalog.load("pretrain_gate_report")
        assert not report["passed"]
        assert [check["passed"] for check in report["checks"]] == [False, False]

    def test_a_looser_policy_opens_it_and_trains_nothing(
        self, catalog: DataCatalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        judge_by(catalog, CLOSED)
        with pytest.raises(GateClosed):
            SequentialRunner().run(stage_pipeline(PRETRAIN), catalog)
        judge_by(catalog, OPEN)
        before = sorted(catalog.load("params:run").store.rglob("*"))
        again = stage_pipeline(PRETRAIN).only_nodes_with_tags("gate")
        SequentialRunner().run(again, catalog)
        assert catalog.exists("pretrain_checkpoint")
        assert sorted(catalog.load("params:run").store.rglob("*")) == before

    def test_a_gate_that_closes_later_keeps_the_older_certificate(
        self, catalog: DataCatalog
    ) -> None:
        SequentialRunner().run(stage_pipeline(PRETRAIN), catalog)
        earned = catalog.load("pretrain_checkpoint")
        judge_by(catalog, CLOSED)
        with pytest.raises(GateClosed):
            SequentialRunner().run(stage_pipeline(PRETRAIN), catalog)
        assert catalog.load("pretrain_checkpoint") == earned


class TestAStaleReport:
    @pytest.fixture
    def judged(self, catalog: DataCatalog) -> DataCatalog:
        SequentialRunner().run(stage_pipeline(PRETRAIN), catalog)
        return catalog

    def run_gate(self, catalog: DataCatalog) -> None:
        SequentialRunner().run(stage_pipeline(PRETRAIN).only_nodes("gate_pretrain"), catalog)

    def test_the_gate_alone_accepts_a_fresh_one(self, judged: DataCatalog) -> None:
        self.run_gate(judged)

    def test_one_of_another_policy_is_refused(self, judged: DataCatalog) -> None:
        judge_by(judged, GatePolicy.model_validate({"perplexity": {"max": 601}}))
        with pytest.raises(GateStale, match=r"another policy\. Judge again: kedro run"):
            self.run_gate(judged)

    def test_one_of_another_candidate_is_refused(self, judged: DataCatalog) -> None:
        report = judged.load("pretrain_gate_report")
        judged.save("pretrain_gate_report", {**report, "candidate": "0" * 64})
        with pytest.raises(GateStale, match="judged another candidate"):
            self.run_gate(judged)

    def test_metrics_of_another_candidate_are_not_judged(self, judged: DataCatalog) -> None:
        metrics = judged.load("pretrain_metrics")
        judged.save("pretrain_metrics", {**metrics, "candidate": "0" * 64})
        again = stage_pipeline(PRETRAIN).only_nodes_with_tags("gate")
        with pytest.raises(GateStale, match=r"--from-nodes pretrain\.evaluate"):
            SequentialRunner().run(again, judged)

    def test_the_report_on_disk_is_plain_json(self, judged: DataCatalog, tmp_path: Path) -> None:
        report = json.loads((tmp_path / "pretrain_gate_report.json").read_text())
        assert report["stage"] == "pretrain" and report["checks"][0]["metric"] == "perplexity"
