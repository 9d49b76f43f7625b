"""What contradicts itself or does not fit the machine is refused before any node runs."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from curricle.errors import ConfigError, StoreError
from curricle.pipeline_registry import register_pipelines
from curricle.planning import machine
from curricle.planning.inputs import unordered_evaluations
from curricle.planning.plan import StagePlan
from curricle.planning.preflight import size_problems
from tests.fabricated import Project, specs

PARAMETERS: dict[str, Any] = {
    "pretrain": {"prepare": {"architecture": "llama_small"}, "train": {"tokens_per_step": 4096}},
    "sft": {"train": {"max_length": 512}},
    "corpus": {"pack": {"curriculum": [{"seq_length": 512}]}, "tokenizer": {"vocab_size": 4096}},
}


def sizes(**blocks: Any) -> str:
    return "\n".join(size_problems(specs("pretrain", "sft"), {**PARAMETERS, **blocks}))


def plan(**changes: int) -> StagePlan:
    fields: dict[str, Any] = {"parameters": 10, "trainable": 10, "steps": 1, "tokens": 1}
    needs = {"memory_bytes": 0, "state_bytes": 0, "disk_bytes": 0, **changes}
    return StagePlan("sft", **fields, **needs)


def test_sizes_that_fit_pass() -> None:
    assert sizes() == ""


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ({"sft": {"train": {"max_length": 513}}}, "sft.train.max_length=513 is more than the mo"),
        (
            {"corpus": {"pack": {"curriculum": [{"seq_length": 1024}]}, "tokenizer": {}}},
            "corpus.pack.curriculum reaches 1024 tokens, the model only 512",
        ),
        (
            {"corpus": {"tokenizer": {"vocab_size": 5000}}},
            "corpus.tokenizer.vocab_size=5000 is more than the model's 4096",
        ),
    ],
)
def test_a_length_that_the_model_has_no_room_for_is_named(
    blocks: dict[str, Any], said: str
) -> None:
    assert said in sizes(**blocks)


def test_a_file_where_the_store_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="is a file where a folder is needed"):
        machine.check_writable(tmp_path / "store" / "sft.train")


def test_a_read_only_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    with pytest.raises(StoreError, match="cannot be written"):
        machine.check_writable(tmp_path)


def test_a_disk_that_is_too_small_is_said_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"needs 1e\+03 TB .* are free"):
        machine.check_disk(tmp_path, 10**15)


def test_a_model_that_cannot_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="need 16 GB for weights, gradients and AdamW alone"):
        machine.check_memory((plan(state_bytes=16 * 10**9),), total=8 * 10**9)


def test_activations_that_may_not_fit_only_warn(caplog: pytest.LogCaptureFixture) -> None:
    machine.check_memory((plan(memory_bytes=16 * 10**9),), total=8 * 10**9)
    assert "per_device_train_batch_size" in caplog.text


def test_seven_billion_parameters_are_refused_before_any_node(project: Project) -> None:
    total = machine.memory_bytes()
    if total > 16 * 7_391_678_464:
        pytest.skip("this machine could")
    result = project.kedro(
        "run", "--pipelines", "corpus,pretrain",
        "--params", "pretrain.prepare.architecture=llama_7b",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "7,391,678,464 parameters need" in result.stderr


def test_an_edited_certificate_is_refused_in_its_own_words(project: Project) -> None:
    project.certify("pretrain", perplexity=90.0)
    path = project.data / "06_models/pretrain_checkpoint.json"
    path.write_text(path.read_text().replace("90.0", "9.0"))
    result = project.kedro("run", "--pipelines", "sft", "--nodes", "sft.train")
    assert result.exit_code == 1
    assert "is not a certificate as a gate wrote it" in result.stderr


def test_an_evaluation_that_would_not_wait_for_the_curriculum_beside_it_is_refused() -> None:
    pipelines = register_pipelines()
    beside = pipelines["lang_python"] + pipelines["eval_python"]
    (said,) = unordered_evaluations(beside, {})
    assert "eval_python would measure the lang_python_grpo of an earlier run" in said
    for fits in (pipelines["agent"], pipelines["__default__"], pipelines["eval_python"]):
        assert not [*unordered_evaluations(fits, {})]
    assert not [*unordered_evaluations(beside, {"evaluation": {"checkpoint": "/models/mine"}})]
