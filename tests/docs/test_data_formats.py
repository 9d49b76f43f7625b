"""Every example of docs/DATA_FORMATS.md, given to the code that reads or writes the format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import Dataset

import curricle
from curricle.agents.trajectories import Detour, Trajectory
from curricle.checkpoints.certificate import Certificate, stored_to_json
from curricle.checkpoints.datasets import CertificateDataset, StoredDataset
from curricle.checkpoints.manifest import MANIFEST_NAME, Manifest
from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.chat import ChatParameters, PairParameters
from curricle.config.corpus import (
    ContextStage,
    IngestParameters,
    PackParameters,
    SourceParameters,
    TokenizerParameters,
)
from curricle.config.gates import GatePolicy
from curricle.config.tasks import ProjectsParameters
from curricle.config.training import EvaluateParameters, ModelConfig, PretrainParameters
from curricle.engine.agent_rows import trajectory_samples
from curricle.engine.models import load_tokenizer
from curricle.engine.renderers import ChatTemplateRenderer
from curricle.execution.journal import Journal, Status
from curricle.languages.tasks import BugTask
from curricle.pipelines.corpus.documents import read_documents, to_line
from curricle.pipelines.corpus.nodes import pack_documents, train_corpus_tokenizer
from curricle.pipelines.corpus.packed import PackedArray
from curricle.pipelines.corpus.packing import pack_input_ids
from curricle.pipelines.corpus.rows import segments_path
from curricle.pipelines.corpus.sources import ingest
from curricle.pipelines.corpus.tokenizer import SPECIAL_TOKENS, train_tokenizer
from curricle.pipelines.dpo.external import read_pairs
from curricle.pipelines.dpo.pairs import build_pairs
from curricle.pipelines.lora.tasks import LABELS, question
from curricle.pipelines.pretrain.nodes import initialise_model
from curricle.pipelines.pretrain.pipeline import PRETRAIN
from curricle.pipelines.sft.chat import build_chat
from curricle.pipelines.sft.messages import checked_messages, read_messages
from curricle.pipelines.sft.requests import all_requests
from curricle.pipelines.sft.rows import read_rows
from curricle.stages.nodes import evaluate_node, gate_node, judge_node, train_node
from curricle.stages.policy import judge_metrics
from tests.docs.markdown import PROJECT, blocks

EXAMPLES = {
    block.name: block.text for block in blocks(PROJECT / "docs/DATA_FORMATS.md") if block.name
}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in EXAMPLES[name].splitlines()]


def example(name: str) -> Any:
    return json.loads(EXAMPLES[name])


def written(name: str, folder: Path, file: str = "rows.jsonl") -> Path:
    path = folder / file
    path.write_text(EXAMPLES[name])
    return path


def keys(value: Any) -> Any:
    """The keys of a JSON value, down to what is not an object."""
    return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """This package's own sources, as cleaned documents."""
    folder = tmp_path_factory.mktemp("documents")
    sources = sorted(Path(curricle.__file__).parent.rglob("*.py"))
    texts = [(path.name, path.read_text()) for path in sources if path.stat().st_size]
    lines = [
        to_line({"id": name, "text": text, "kind": "code", "path": name, "source": "own"})
        for name, text in texts
    ]
    (folder / "train.jsonl").write_bytes(b"".join(lines[:-8]))
    (folder / "heldout.jsonl").write_bytes(b"".join(lines[-8:]))
    return Stored("corpus.clean", "0" * 16, "0" * 64, folder)


@pytest.fixture(scope="module")
def pretrained(
    documents: Stored, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What a real pretraining stage writes, two steps long: each file by its name here."""
    data = tmp_path_factory.mktemp("project") / "data"
    run = RunSettings(store=data / "store", launch="in_process", threads=2)
    tokenizer = train_corpus_tokenizer(documents, TokenizerParameters(vocab_size=320), run)
    lengths = (ContextStage(seq_length=16, share=0.5), ContextStage(seq_length=32, share=0.5))
    packed = pack_documents(documents, tokenizer, PackParameters(curriculum=lengths), run)
    small = {"vocab_size": 320, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    architecture = ModelConfig(architecture="llama_small", overrides=small)
    initial = initialise_model(tokenizer, architecture, run)
    budget = PretrainParameters(
        learning_rate=1e-3, tokens_per_step=64, max_steps=2, precision="fp32"
    )
    candidate = train_node(PRETRAIN)(initial, packed, budget, run)
    measure = EvaluateParameters(max_rows=2)
    metrics = evaluate_node(PRETRAIN)(candidate, packed, packed, measure, run)
    policy = GatePolicy.model_validate({"perplexity": {"max": 1e9}})
    report = judge_node(PRETRAIN)(candidate, metrics, policy)
    certificate = gate_node(PRETRAIN)(candidate, report, policy)
    models = data / "06_models"
    return {
        "curve": json.loads((candidate.path / "curve.jsonl").read_text().splitlines()[0]),
        "metrics": json.loads(
            next((data / "store/pretrain.evaluate").glob("*/metrics.json")).read_text()
        ),
        "stage_metrics": metrics,
        "gate_report": report,
        "handle": stored_to_json(candidate, models),
        "certificate": certificate.to_json(models),
        "manifest": json.loads((candidate.path / MANIFEST_NAME).read_text()),
        "tokenizer_config": json.loads((tokenizer.path / "tokenizer_config.json").read_text()),
    }


def test_every_example_has_a_test() -> None:
    here = Path(__file__).read_text()
    assert EXAMPLES and [name for name in EXAMPLES if f'"{name}"' not in here] == []


class TestTheCorpus:
    def test_sources_are_parameters(self) -> None:
        parsed = yaml.safe_load(EXAMPLES["sources"])
        kinds = [s.kind for s in IngestParameters(**parsed["corpus"]["ingest"]).sources]
        assert kinds == ["folder", "folder"]

    def test_documents_are_read(self, tmp_path: Path) -> None:
        read = list(read_documents(written("documents", tmp_path)))
        assert read == rows("documents")

    def test_documents_are_what_ingest_writes(self, tmp_path: Path) -> None:
        code, prose = rows("documents")
        for document in (code, prose):
            folder = tmp_path / document["source"]
            (folder / document["path"]).parent.mkdir(parents=True)
            text = document["text"]
            if document is prose:
                text = json.dumps({"text": text}) + "\n"
            (folder / document["path"]).write_text(text)
        for number in range(20):  # so that neither side of the split stays empty
            (tmp_path / "my_project" / f"more{number}.py").write_text(f"number = {number}\n")
        sources = tuple(
            SourceParameters(kind="folder", path=str(tmp_path / document["source"]))
            for document in (code, prose)
        )
        output = tmp_path / "output"
        output.mkdir()
        ingest(output, IngestParameters(sources=sources, heldout_share=0.3))
        found = [
            document
            for side in ("train", "heldout")
            for document in read_documents(output / f"{side}.jsonl")
        ]
        assert code in found and prose in found

    def test_the_tokenizer_folder_is_what_is_written(
        self, pretrained: dict[str, dict[str, Any]]
    ) -> None:
        assert example("tokenizer_config") == pretrained["tokenizer_config"]
        assert SPECIAL_TOKENS == ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")

    def test_packed_rows_have_these_positions_and_labels(self, tmp_path: Path) -> None:
        shown = example("packed")
        path = tmp_path / "train_8.npy"
        np.save(path, np.array(shown["rows"], dtype=np.int64))
        np.save(segments_path(path), np.array(shown["segments"], dtype=np.int32))
        assert_batch(path, shown)

    def test_arrays_from_elsewhere_follow_the_padding_rule(self, tmp_path: Path) -> None:
        for number, shown in enumerate(example("foreign_packed")):
            path = tmp_path / f"{number}.npy"
            np.save(path, np.array(shown["rows"], dtype=np.uint16))
            assert_batch(path, shown)

    def test_datasets_of_token_ids_are_packed(self, documents: Stored, tmp_path: Path) -> None:
        train_tokenizer(tmp_path, documents.path, TokenizerParameters(vocab_size=320))
        dataset = [rows("input_ids")[number % 2] for number in range(40)]
        Dataset.from_list(dataset).save_to_disk(str(tmp_path / "ids"))
        source = SourceParameters(
            kind="hub", path=str(tmp_path / "ids"), input_ids_field="input_ids"
        )
        parameters = PackParameters(curriculum=(ContextStage(seq_length=8, share=1.0),))
        limits = IngestParameters(sources=(source,), heldout_share=0.2)
        report = pack_input_ids(tmp_path, limits, tmp_path, parameters)
        assert report["train_8"]["documents"] + report["heldout_8"]["documents"] == 40
        array = np.load(tmp_path / "train_8.npy")
        segments = np.load(tmp_path / "train_8.segments.npy")
        assert array.dtype == np.int64 and array.shape[1] == 8
        assert segments.dtype == np.int32 and segments.shape[1] == 3
        endings = {array[row, start + length - 1] for row, start, length in segments}
        assert endings == {0}, "every document ends in the end-of-text token"


class TestTheDataOfStages:
    def test_conversations_are_read(self, tmp_path: Path) -> None:
        assert list(read_messages(written("messages", tmp_path))) == rows("messages")

    def test_trajectories_are_read(self) -> None:
        (row,) = rows("trajectories")
        trajectory = Trajectory.from_json(row)
        assert json.loads(json.dumps(trajectory.to_json())) == row
        assert [message.get("train") for message in trajectory.messages].count(False) == 1
        assert set(trajectory.detours) <= {str(detour) for detour in Detour}

    def test_plain_text_stays_plain(self, documents: Stored, tmp_path: Path) -> None:
        texts = [
            {"text": row["text"].replace("area", f"area{number}")}
            for number in range(30)
            for row in rows("text")
        ]
        dataset = tmp_path / "own.jsonl"
        dataset.write_text("".join(json.dumps(row) + "\n" for row in texts))
        parameters = ChatParameters(dataset=str(dataset), heldout_share=0.3, refusal_share=0.0)
        build_chat(tmp_path, documents.path, parameters)
        for _, row in read_rows(tmp_path / "train.jsonl"):
            assert list(row) == ["text", "task", "source"] and row["task"] == "text"

    def test_stored_conversations_and_requests_have_these_keys(
        self, documents: Stored, tmp_path: Path
    ) -> None:
        build_chat(tmp_path, documents.path, ChatParameters(max_train_examples=20))
        for name, file in (("chat", "train.jsonl"), ("requests", "requests_heldout.jsonl")):
            _, first = next(read_rows(tmp_path / file))
            assert [list(row) for row in rows(name)] == [list(first)] * len(rows(name))
        for row in rows("chat"):
            checked_messages(row["messages"], "docs")

    def test_requests_are_authored_ones(self) -> None:
        for row in rows("requests"):
            request = all_requests()[row["id"]]
            assert (request.prompt, request.unsafe) == (row["prompt"], row["unsafe"])

    def test_pairs_are_read_as_texts_and_as_messages(self, tmp_path: Path) -> None:
        for pair in read_pairs(written("pairs", tmp_path)):
            assert [turn["role"] for turn in pair["prompt"] + pair["chosen"]] == [
                "user",
                "assistant",
            ]

    def test_stored_pairs_have_these_keys(self, documents: Stored, tmp_path: Path) -> None:
        chat, pairs = tmp_path / "chat", tmp_path / "pairs"
        chat.mkdir()
        pairs.mkdir()
        build_chat(chat, documents.path, ChatParameters(max_train_examples=20))
        build_pairs(pairs, documents.path, chat, PairParameters(max_train_pairs=20))
        _, first = next(read_rows(pairs / "train.jsonl"))
        (shown,) = rows("stored_pairs")
        assert list(shown) == list(first)
        assert list(read_pairs(written("stored_pairs", tmp_path)))

    def test_task_rows_ask_the_question_and_answer_with_a_label(self) -> None:
        (row,) = rows("task")
        asked, answered = checked_messages(row["messages"], "docs")
        assert asked["content"].endswith(f"\n\n{question(LABELS)}")
        assert answered["content"] == row["label"] and row["label"] in LABELS


class TestBugTasks:
    def test_the_projects_are_parameters(self) -> None:
        parsed = yaml.safe_load(EXAMPLES["projects"])["tasks_python"]["projects"]
        assert len(ProjectsParameters.model_validate(parsed).listed) == 3

    def test_the_task_is_read_and_written_alike(self) -> None:
        (row,) = rows("bug_task")
        task = BugTask.from_json(row)
        assert json.loads(json.dumps(task.to_json())) == row
        assert not set(task.failing) & set(task.heldout)


class TestTheJournal:
    def test_the_example_is_read_and_written_alike(self, tmp_path: Path) -> None:
        segment = written("journal", tmp_path, "000001-1-a.jsonl")
        found = dict(Journal(tmp_path).items())
        assert list(found) == [row["key"] for row in rows("journal")]
        assert [outcome.status for outcome in found.values()] == [Status.DONE, Status.MASKED]
        with Journal(tmp_path / "again") as again:
            for key, outcome in found.items():
                again.append(key, outcome)
        (copy,) = (tmp_path / "again").iterdir()
        assert copy.read_text() == segment.read_text()


class TestWhatAStageWrites:
    @pytest.mark.parametrize(
        "name", ["curve", "metrics", "stage_metrics", "gate_report", "handle", "certificate"]
    )
    def test_an_example_has_the_keys_of_a_real_one(
        self, name: str, pretrained: dict[str, dict[str, Any]]
    ) -> None:
        (shown,) = rows(name) if name == "curve" else [example(name)]
        assert keys(shown) == keys(pretrained[name])

    def test_the_manifest_has_the_keys_of_a_real_one(
        self, pretrained: dict[str, dict[str, Any]]
    ) -> None:
        shown, real = example("manifest"), pretrained["manifest"]
        assert list(shown) == list(real)
        assert list(shown["identity"]) == list(real["identity"])
        for group in ("effective", "measured", "versions"):
            assert set(shown[group]) <= set(real[group])

    def test_the_columns_of_other_curves_are_the_trainers(self) -> None:
        from curricle.engine.trainers import OurSchedule

        plain, preferences = rows("post_training_curve")
        assert tuple(preferences) == OurSchedule.curve_keys
        assert set(plain) < set(preferences)

    def test_a_gate_report_follows_from_its_metrics_and_its_policy(self) -> None:
        report = example("gate_report")
        policy = GatePolicy.model_validate(report["policy"])
        assert judge_metrics(report["metrics"], policy, None) == report["checks"]

    def test_policies_are_read(self) -> None:
        parsed = yaml.safe_load(EXAMPLES["gates"])["gates"]
        policy = GatePolicy.model_validate(parsed["dpo"])
        assert policy.root["perplexity"].relative_to == "pretrain"
        assert policy.root["ranking_accuracy"].severity == "warn"

    def test_handle_certificate_and_manifest_belong_together(self, tmp_path: Path) -> None:
        models = tmp_path / "data/06_models"
        models.mkdir(parents=True)
        handle = StoredDataset(filepath=str(written("handle", models, "pretrain_candidate.json")))
        checkpoint = CertificateDataset(
            filepath=str(written("certificate", models, "pretrain_checkpoint.json"))
        )
        assert not handle.exists() and not checkpoint.exists(), "nothing is stored yet"

        folder = (models / example("handle")["path"]).resolve()
        folder.mkdir(parents=True)
        manifest = Manifest(**example("manifest"))
        written("manifest", folder, MANIFEST_NAME)
        assert handle.load().digest == manifest.digest
        certificate = checkpoint.load()
        assert certificate.candidate == handle.load()
        assert certificate.report == example("gate_report")

    def test_an_edited_certificate_is_no_certificate(self, tmp_path: Path) -> None:
        content = example("certificate")
        assert Certificate.from_json(content, tmp_path).hash == content["hash"]
        content["report"]["metrics"]["perplexity"] = 1.0
        with pytest.raises(ValueError, match="its content hashes to"):
            Certificate.from_json(content, tmp_path)


class TestRendering:
    def test_a_trajectory_is_written_as_shown(self, documents: Stored, tmp_path: Path) -> None:
        (row,) = rows("rendered")
        train_tokenizer(tmp_path, documents.path, TokenizerParameters(vocab_size=320))
        renderer = ChatTemplateRenderer(load_tokenizer(tmp_path), "plain")
        (sample,) = trajectory_samples(renderer, row, "row 1")
        assert renderer.text(sample.input_ids) == EXAMPLES["plain_calls"]
        said = renderer.text(sample.input_ids[sample.assistant_mask])
        assert "hight" not in said
        assert said.count("<|im_end|>") == 2


def assert_batch(path: Path, shown: dict[str, Any]) -> None:
    packed = PackedArray.open(path, eos_id=shown["eos_id"], pad_id=shown["pad_id"])
    batch = packed.rows(np.arange(len(packed)))
    assert batch.input_ids.tolist() == shown["rows"]
    assert batch.position_ids.tolist() == shown["position_ids"]
    assert batch.labels.tolist() == shown["labels"]
