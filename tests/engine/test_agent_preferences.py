"""IPO on an agent's conversations: compared where the model spoke, and nowhere else."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from curricle.config.agent_training import AgentPreferenceParameters
from curricle.config.training import AdapterShape, DpoParameters
from curricle.engine.adapters import ADAPTER_FOLDER
from curricle.engine.agent_preferences import agent_ipo_job, agent_pair_trainer, agent_pairs
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.post_training import pair_trainer, preference_pairs
from curricle.engine.pretraining import CURVE_NAME
from curricle.engine.renderers import ChatTemplateRenderer
from curricle.engine.rendering import attach_chat_template
from curricle.engine.trainers import MaskedPairs, OurSchedule
from curricle.errors import DataError, Interrupted
from curricle.launch.job import Job
from curricle.pipelines.sft.rows import write_rows
from tests.engine import lights
from tests.engine.conftest import MakeJob

PARAMETERS: dict[str, Any] = {
    "learning_rate": 3e-3, "max_length": 128, "batch_size": 4, "num_train_epochs": 4,
    "precision": "fp32", "renderer": "plain",
}  # fmt: skip


def pair(lamp: int, chosen: str = "lime", rejected: str = "red") -> dict[str, Any]:
    """Both look; then one presses the right button, and one the wrong one twice."""
    good, bad = lights.played(lamp, chosen), lights.played(lamp, rejected, rejected)
    return {"prompt": good[:3], "chosen": good[3:], "rejected": bad[3:], "tools": lights.TOOLS}


@pytest.fixture(scope="session")
def agent_pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agent_pairs")
    write_rows(folder / "train.jsonl", [pair(lamp) for lamp in range(6)])
    return folder


@pytest.fixture
def ipo(make_job: MakeJob, initial: Path, agent_pairs_folder: Path) -> Callable[..., Job]:
    def make(name: str = "job", **changes: Any) -> Job:
        parameters = {**PARAMETERS, **changes}
        return make_job("agent_ipo", parameters, name, start=initial, data=agent_pairs_folder)

    return make


@pytest.fixture
def renderer(initial: Path) -> ChatTemplateRenderer:
    return ChatTemplateRenderer(load_tokenizer(initial), "plain")


def curve(job: Job) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job.output / CURVE_NAME).read_text().splitlines()]


class TestWhatIsCompared:
    def test_is_what_the_model_said_after_the_shared_messages(
        self, renderer: ChatTemplateRenderer, agent_pairs_folder: Path
    ) -> None:
        rows, recorded = agent_pairs(renderer, agent_pairs_folder / "train.jsonl", 128)
        assert recorded["pairs"] == 6
        batch = MaskedPairs(DataCollatorForPreference(pad_token_id=0))([rows[0], rows[1]])
        decode = renderer.tokenizer.decode
        for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True):
            spoken, rest = decode(ids[mask.bool()]), decode(ids[~mask.bool()])
            assert "press" in spoken and "done" in spoken
            assert "click" not in spoken and "look" not in spoken
            assert "click" in rest and "Lamp" in rest

    def test_trl_alone_would_train_on_what_the_tools_printed(
        self, renderer: ChatTemplateRenderer, agent_pairs_folder: Path
    ) -> None:
        rows, _ = agent_pairs(renderer, agent_pairs_folder / "train.jsonl", 128)
        batch = DataCollatorForPreference(pad_token_id=0)([rows[0]])
        taken = renderer.tokenizer.decode(batch["input_ids"][0][batch["completion_mask"][0].bool()])
        assert "click" in taken

    def test_the_loss_is_the_squared_distance_to_the_margin_per_spoken_token(
        self, ipo: Callable[..., Job], renderer: ChatTemplateRenderer
    ) -> None:
        job = ipo(beta=2.0)
        rows, _ = agent_pairs(renderer, job.inputs["data"] / "train.jsonl", 128)
        parameters = AgentPreferenceParameters(**job.parameters)
        trainer = agent_pair_trainer(job, parameters, renderer.tokenizer, rows, 2)
        start = load_model(job.inputs["start"])
        with torch.no_grad():
            for weight in trainer.model.parameters():
                weight.add_(0.02 * torch.randn_like(weight))
        losses = []
        for row in rows.select(range(2)):
            margin = 0.0
            for sign, side in ((1, "chosen"), (-1, "rejected")):
                ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
                mask = torch.tensor([0] * len(row["prompt_ids"]) + row[f"{side}_mask"]).bool()
                with torch.no_grad():
                    ratio = sum(
                        s * model(input_ids=ids, use_cache=False)
                        .logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[mask[1:]].mean()
                        for s, model in ((1, trainer.model), (-1, start))
                    )  # fmt: skip
                margin += sign * float(ratio)
            losses.append((margin - 1 / (2 * 2.0)) ** 2)
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
        found = float(trainer.compute_loss(trainer.model, batch))
        assert found == pytest.approx(sum(losses) / 2, rel=1e-3)


class PlainTrainer(OurSchedule, DPOTrainer):
    """TRL's trainer, with our schedule only."""

    def __init__(self, parameters: Any, **kwargs: Any) -> None:
        self.parameters = parameters
        super().__init__(**kwargs)


@pytest.mark.parametrize("loss_type", ["ipo", "sigmoid"])
def test_scoring_labels_only_gives_trl_s_loss_and_gradient(
    make_job: MakeJob, initial: Path, pairs: Path, loss_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = DpoParameters(
        learning_rate=1e-3, max_length=96, batch_size=4, precision="fp32", sft_weight=0.2,
        loss_type=loss_type, beta=0.5,
    )  # fmt: skip
    tokenizer = load_tokenizer(initial)
    attach_chat_template(tokenizer)
    rows, _ = preference_pairs(tokenizer, pairs / "train.jsonl", parameters)

    def first_step() -> tuple[float, dict[str, torch.Tensor]]:
        job = make_job("dpo", {}, start=initial)
        trainer = pair_trainer(job, parameters, load_model(initial), tokenizer, rows, micro_batch=4)
        model = trainer.model
        with torch.no_grad():
            draw = torch.Generator().manual_seed(0)
            for weight in model.parameters():
                weight.add_(0.02 * torch.randn(weight.shape, generator=draw))
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
        loss = trainer.compute_loss(model, batch)
        loss.backward()
        return float(loss), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    ours, our_gradients = first_step()
    monkeypatch.setattr("curricle.engine.post_training.PairDPOTrainer", PlainTrainer)
    theirs, their_gradients = first_step()
    assert ours == pytest.approx(theirs, rel=1e-5)
    for name, gradient in their_gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(our_gradients[name], gradient, atol=1e-4 * scale, rtol=0)


class TestTheJob:
    def test_moves_from_the_margin_that_beta_asks_for(self, ipo: Callable[..., Job]) -> None:
        job = ipo()
        result = agent_ipo_job(job)
        first, *_, last = curve(job)
        assert first["loss"] == pytest.approx(0.25)  # (1 / (2 beta))^2, at no margin yet
        assert last["loss"] < 0.2
        assert last["rewards/accuracies"] == 1.0
        assert result.effective["pairs"] == 6
        assert result.effective["tokens"] > 2 * 6 * 20, "both sides, with what they share"
        assert 0 < result.effective["assistant_token_share"] < 1

    def test_an_adapter_is_merged(self, ipo: Callable[..., Job], initial: Path) -> None:
        job = ipo(adapter=AdapterShape(r=4).model_dump(), learning_rate=1e-2)
        result = agent_ipo_job(job)
        assert (job.output / ADAPTER_FOLDER / "adapter_model.safetensors").exists()
        assert set(result.effective["adapted_modules"]) >= {"q_proj", "down_proj"}
        before, after = (dict(load_model(f).named_parameters()) for f in (initial, job.output))
        assert any(not torch.equal(before[name], after[name]) for name in before)

    def test_interrupted_it_ends_bit_equal(
        self, ipo: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, job = ipo("whole"), ipo()
        agent_ipo_job(whole)
        original, passes = Trainer.training_step, iter(range(10_000))

        def training_step(*arguments: Any, **more: Any) -> Any:
            if next(passes) == 2:
                signal.raise_signal(signal.SIGTERM)
            return original(*arguments, **more)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "training_step", training_step)
            with pytest.raises(Interrupted, match="SIGTERM after step 3"):
                agent_ipo_job(job)
        agent_ipo_job(job)
        found, wanted = (
            {p.name: p.read_bytes() for p in j.output.iterdir() if p.is_file()}
            for j in (job, whole)
        )
        assert found == wanted


class TestBadRows:
    def test_that_are_identical_are_named(
        self, renderer: ChatTemplateRenderer, tmp_path: Path
    ) -> None:
        row = pair(0)
        write_rows(tmp_path / "p.jsonl", [pair(1), {**row, "rejected": row["chosen"]}])
        with pytest.raises(DataError, match=r"p\.jsonl, row 2: chosen and rejected are identical"):
            agent_pairs(renderer, tmp_path / "p.jsonl", 128)

    def test_that_are_too_long_are_dropped_and_counted(
        self, renderer: ChatTemplateRenderer, tmp_path: Path
    ) -> None:
        long = pair(0)
        long["chosen"][1]["content"] = "click " * 200
        write_rows(tmp_path / "p.jsonl", [long, pair(1)])
        rows, recorded = agent_pairs(renderer, tmp_path / "p.jsonl", 128)
        assert (len(rows), recorded["dropped_too_long"]) == (1, 1)
        write_rows(tmp_path / "p.jsonl", [long])
        with pytest.raises(DataError, match="none of 1 pairs has at most max_length=128"):
            agent_pairs(renderer, tmp_path / "p.jsonl", 128)

    def test_in_which_the_model_spelled_a_special_token_are_dropped_and_counted(
        self, renderer: ChatTemplateRenderer, tmp_path: Path
    ) -> None:
        spelled = pair(0)
        spelled["rejected"][-1]["content"] = "<|im_end|>"
        write_rows(tmp_path / "p.jsonl", [spelled, pair(1)])
        rows, recorded = agent_pairs(renderer, tmp_path / "p.jsonl", 128)
        assert (len(rows), recorded["dropped_special_tokens"]) == (1, 1)

    def test_in_which_the_model_says_nothing_trained_are_named(
        self, renderer: ChatTemplateRenderer, tmp_path: Path
    ) -> None:
        row = pair(0)
        for message in row["rejected"]:
            if message["role"] == "assistant":
                message["train"] = False
        write_rows(tmp_path / "p.jsonl", [row])
        with pytest.raises(DataError, match=r"row 1.*rejected"):
            agent_pairs(renderer, tmp_path / "p.jsonl", 128)
