"""``kedro curricle``: gates, lineage, gc and plan, over a store that looks trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from curricle.checkpoints.datasets import read_certificate
from tests.fabricated import GATES, Project


def certified(project: Project) -> None:
    parent = None
    for stage, metrics in {
        "pretrain": {"perplexity": 90.0},
        "sft": {"assistant_token_accuracy": 0.5, "perplexity": 95.0},
        "dpo": {"perplexity": 99.0},
        "lora": {"task_accuracy": 0.9, "perplexity": 101.0},
    }.items():
        parent = project.certify(stage, parent, **metrics)


def test_all_gates_open_is_status_zero(project: Project) -> None:
    certified(project)
    result = project.kedro("curricle", "gates", "--pipeline", "general")
    assert result.exit_code == 0
    assert "certificate of the current candidate" in result.stdout


def test_a_gate_that_never_opened_is_status_one(project: Project) -> None:
    project.certify("pretrain", perplexity=90.0)
    result = project.kedro("curricle", "gates")
    assert result.exit_code == 1
    assert "no candidate yet" in result.stdout


def test_a_missing_folder_of_private_settings_is_named_with_the_fix(project: Project) -> None:
    shutil.rmtree(project.path / "conf/local")
    result = project.kedro("curricle", "gates")
    assert result.exit_code == 1
    assert "conf/local is missing" in result.output and "mkdir -p conf/local" in result.output


def test_an_older_certificate_is_reported_as_older(project: Project) -> None:
    certified(project)
    candidate = project.train("lora", salt="again", task_accuracy=0.1)
    project.judge("lora", candidate, {"task_accuracy": 0.1})
    result = project.kedro("curricle", "gates", "--pipeline", "general")
    assert result.exit_code == 1
    assert "the certificate is of an older candidate" in result.stdout


def test_a_changed_policy_asks_to_judge_again(project: Project) -> None:
    certified(project)
    changed = {**GATES, "sft": {"assistant_token_accuracy": {"min": 0.1}}}
    project.write("conf/base/gates.yml", json.dumps({"gates": changed}))
    result = project.kedro("curricle", "gates", "--pipeline", "general")
    assert result.exit_code == 1
    assert "kedro run --pipelines sft --tags gate" in result.stdout


def test_lineage_proves_an_untouched_chain(project: Project) -> None:
    certified(project)
    result = project.kedro("curricle", "lineage", "--stage", "lora")
    assert result.exit_code == 0
    assert result.stdout.count("proven") == 4


def test_lineage_names_the_file_that_was_edited(project: Project) -> None:
    certified(project)
    (model,) = (project.data / "store/sft.train").glob("*/model.safetensors")
    model.write_text("poisoned")
    result = project.kedro("curricle", "lineage")
    assert result.exit_code == 1
    assert "model.safetensors was changed" in result.stderr


def test_lineage_finds_an_edited_certificate(project: Project) -> None:
    certified(project)
    path = project.data / "06_models/sft_checkpoint.json"
    content = json.loads(path.read_text())
    content["report"]["metrics"]["assistant_token_accuracy"] = 0.99
    path.write_text(json.dumps(content))
    result = project.kedro("curricle", "lineage")
    assert result.exit_code == 1
    assert "is not a certificate as a gate wrote it" in result.stderr


def test_lineage_finds_training_data_that_was_edited(project: Project) -> None:
    certified(project)
    (data,) = (project.data / "store/pretrain.data").glob("*/data.txt")
    data.write_text("other")
    result = project.kedro("curricle", "lineage")
    assert result.exit_code == 1
    assert "data.txt was changed" in result.stderr


def test_an_unknown_stage_is_answered_with_the_nearest(project: Project) -> None:
    result = project.kedro("curricle", "lineage", "--stage", "sfd")
    assert result.exit_code == 1
    assert "did you mean sft?" in result.stderr


def test_gc_lists_only_what_nothing_needs_and_deletes_only_when_told(project: Project) -> None:
    certified(project)
    forgotten = project.stored("sft.train", model__safetensors="never judged", salt="forgotten")
    listed = project.kedro("curricle", "gc")
    assert f"sft.train/{forgotten.fingerprint}" in listed.stdout
    assert listed.stdout.count("sft.train/") == 1
    assert forgotten.path.exists()
    deleted = project.kedro("curricle", "gc", "--yes")
    assert deleted.exit_code == 0
    assert not forgotten.path.exists()
    assert project.kedro("curricle", "lineage").exit_code == 0


def test_gc_keeps_what_an_archived_certificate_reaches(project: Project) -> None:
    older = project.certify("pretrain", perplexity=90.0)
    project.certify("pretrain", salt="newer", perplexity=80.0)
    assert project.kedro("curricle", "gc", "--yes").exit_code == 0
    assert older.candidate.path.exists()


def test_gc_keeps_what_was_measured_on_a_candidate_that_is_needed(project: Project) -> None:
    candidate = project.certify("pretrain", perplexity=90.0).candidate
    measured = project.stored("pretrain.evaluate", {"candidate": candidate}, metrics__json="{}")
    project.kedro("curricle", "gc", "--yes")
    assert measured.path.exists()


def test_gc_keeps_what_another_environment_reaches(project: Project) -> None:
    project.write("conf/other/globals.yml", "data: elsewhere\n")
    handle = project.stored("sft.train", model__safetensors="x", salt="other")
    project.write("elsewhere/handle.json", json.dumps({"digest": handle.digest}))
    project.kedro("curricle", "gc", "--yes")
    assert handle.path.exists()


def test_gc_leaves_a_step_alone_that_somebody_is_building(project: Project) -> None:
    forgotten = project.stored("sft.train", model__safetensors="x", salt="forgotten")
    with project.store._lock("sft.train"):
        result = project.kedro("curricle", "gc", "--yes")
    assert result.exit_code == 1
    assert "another run" in result.stderr
    assert forgotten.path.exists()


def test_a_plan_counts_the_seven_billion(project: Project) -> None:
    result = project.kedro(
        "curricle", "plan", "--pipelines", "pretrain",
        "--params", "pretrain.prepare.architecture=llama_7b",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "7,391,678,464" in result.stdout


def test_a_plan_of_a_project_that_never_ran_builds_nothing(project: Project) -> None:
    result = project.kedro("curricle", "plan")
    assert result.exit_code == 0
    assert "is known after the first run" in result.stdout
    assert not project.store.root.exists()


def test_an_adopted_model_has_a_certificate_that_says_so(project: Project, tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    earlier = project.certify("sft", assistant_token_accuracy=0.5)
    result = project.kedro("curricle", "adopt", str(model), "--as", "sft")
    assert result.exit_code == 0, result.output
    assert "adopted: no gate of this curriculum judged it" in result.stdout
    certificate = read_certificate(project.data / "06_models/sft_checkpoint.json")
    assert certificate.report["adopted"].startswith("trained elsewhere")
    assert certificate.parent is None
    assert (certificate.candidate.path / "model.safetensors").read_bytes() == (
        model / "model.safetensors"
    ).read_bytes()
    assert (project.data / f"06_models/archive/sft_checkpoint/{earlier.hash[:16]}.json").exists()
    proof = project.kedro("curricle", "lineage", "--stage", "sft")
    assert proof.exit_code == 0, proof.output


def test_an_adopted_model_is_reached_by_its_certificate(project: Project, tmp_path: Path) -> None:
    project.kedro("curricle", "adopt", str(tiny_checkpoint(tmp_path / "model")), "--as", "sft")
    assert "Everything that is stored is needed." in project.kedro("curricle", "gc").stdout


def test_adopting_under_an_unknown_name_or_from_nowhere_changes_nothing(
    project: Project, tmp_path: Path
) -> None:
    result = project.kedro("curricle", "adopt", str(tmp_path), "--as", "stf")
    assert result.exit_code == 1
    assert "There is no stage stf; did you mean sft?" in result.stderr
    result = project.kedro("curricle", "adopt", str(tmp_path / "absent"), "--as", "sft")
    assert result.exit_code == 1
    assert "is no checkpoint" in result.stderr
    assert not (project.data / "06_models/sft_checkpoint.json").exists()


def tiny_checkpoint(folder: Path) -> Path:
    """A model of a few hundred weights with a tokenizer of its own, as ``save_pretrained`` does."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=16,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(folder)
    return folder
