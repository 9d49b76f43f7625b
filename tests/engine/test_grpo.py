"""The GRPO job on a small real environment: it learns, it comes back, and nothing can hang it."""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import Trainer

from curricle.agents.hosting import HostedEnvironments
from curricle.config.agent_training import GrpoParameters
from curricle.config.training import AdapterShape
from curricle.engine.adapters import (
    ADAPTER_FOLDER,
    apply_lora_config,
    merge_logit_difference,
)
from curricle.engine.grpo import REWARDS_NAME, grpo_job, merged
from curricle.engine.grpo_journal import JOURNAL_NAME
from curricle.engine.models import init_job, load_model, load_tokenizer
from curricle.engine.post_training import sft_job
from curricle.engine.pretraining import CURVE_NAME
from curricle.engine.renderers import renderer_for
from curricle.errors import ExecutionFailed, Interrupted
from curricle.launch.job import Job
from curricle.pipelines.sft.rows import write_rows
from tests.engine import lights
from tests.engine.conftest import OVERRIDES, MakeJob, describe_job

LAMPS = 6
SETTINGS: dict[str, Any] = {
    "environment": {"function": lights.FUNCTION, "settings": {"secret": "lime"}, "workers": 1},
    "rounds": 4, "groups": 2, "num_generations": 4, "batch_size": 8, "redraws": 1,
    "max_length": 220, "max_turn_tokens": 24, "learning_rate": 1e-3, "warmup_share": 0.0,
    "lr_scheduler_type": "constant", "precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="session")
def player(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that looks, then presses any button."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("player")
    overrides = {**OVERRIDES, "max_position_embeddings": 256}
    start = describe_job(
        root / "start", "init",
        {"architecture": "llama_small", "overrides": overrides, "seed": 0},
        tokenizer=tokenizer_folder,
    )  # fmt: skip
    init_job(start)
    (root / "data").mkdir()
    write_rows(root / "data" / "train.jsonl", [
        {"messages": lights.played(lamp, colour)[:4], "tools": lights.TOOLS}
        for lamp in range(LAMPS) for colour in lights.COLOURS
    ])  # fmt: skip
    taught = describe_job(
        root / "taught", "sft",
        {"max_length": 96, "batch_size": 8, "learning_rate": 1e-2, "num_train_epochs": 999,
         "max_steps": 150, "renderer": "plain", "precision": "fp32"},
        start=start.output, data=root / "data",
    )  # fmt: skip
    sft_job(taught)
    return taught.output


@pytest.fixture(scope="session")
def lamps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks: one for each lamp."""
    folder = tmp_path_factory.mktemp("lamps")
    write_rows(folder / "train.jsonl", [{"lamp": lamp} for lamp in range(LAMPS)])
    return folder


@pytest.fixture
def grpo(make_job: MakeJob, player: Path, lamps: Path) -> Callable[..., Job]:
    """Describe a job; ``misbehave`` goes to the environment."""

    def make(
        name: str = "job",
        misbehave: dict[str, Any] | None = None,
        tasks: list[dict[str, Any]] | None = None,
        timeout_s: float = 60.0,
        **changes: Any,
    ) -> Job:
        environment = {
            **SETTINGS["environment"],
            "settings": {"secret": "lime", **(misbehave or {})},
            "step_timeout_s": timeout_s,
        }
        parameters = {**SETTINGS, "environment": environment, **changes}
        job = make_job("grpo", parameters, name=name, start=player, data=lamps)
        if tasks is not None:
            write_rows(job.output.parent / "train.jsonl", tasks)
            job = job.model_copy(update={"inputs": {**job.inputs, "data": job.output.parent}})
        return job

    return make


def rewards(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.output / REWARDS_NAME).read_text().splitlines()]


def curve(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.output / CURVE_NAME).read_text().splitlines()]


def result_bytes(job: Job) -> dict[str, bytes]:
    files = (path for path in job.output.rglob("*") if path.is_file())
    return {path.relative_to(job.output).as_posix(): path.read_bytes() for path in files}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in load_model(folder).named_parameters()}


def test_it_learns_which_button_turns_the_lamp_on(grpo: Callable[..., Job]) -> None:
    job = grpo(rounds=20, groups=3, num_generations=8, batch_size=24, redraws=0, kl_every=19)
    grpo_job(job)
    by_round = [point["tries/reward"] for point in curve(job)]
    before, after = statistics.mean(by_round[:3]), statistics.mean(by_round[-5:])
    deviation = math.sqrt(before * (1 - before) / (3 * 24) + after * (1 - after) / (5 * 24))
    assert before < 0.5
    assert (after - before) / deviation > 4  # p < 0.0001
    assert curve(job)[0]["kl_to_start"] == pytest.approx(0, abs=1e-6)
    assert curve(job)[-1]["kl_to_start"] > 0.01


def test_a_round_is_described_in_the_curve_and_beside_the_checkpoint(
    grpo: Callable[..., Job],
) -> None:
    job = grpo()
    result = grpo_job(job)
    assert [point["step"] for point in curve(job)] == [1, 2, 3, 4]
    for point in curve(job):
        assert 0 < point["groups/differing"] <= 1
        assert 0.5 < point["calls/valid"] <= 1
        assert point["turns"] >= 1 and point["tokens"] > 5
    tries = [reward for row in rewards(job) for reward in row["rewards"]]
    assert set(tries) == {0.0, 1.0}
    assert result.effective["tries"] == len(tries)
    assert result.effective["tokens"] > len(tries)
    assert result.effective["groups_differing"] > 0
    assert result.effective["steps"] == 4
    model, tokenizer = load_model(job.output), load_tokenizer(job.output)
    assert model.config.vocab_size == 512
    renderer_for(tokenizer, None, "the next stage")  # it carries its template


class TestTheAdapter:
    SHAPE = AdapterShape(r=4, lora_alpha=8.0)

    def test_is_trained_and_merged(self, grpo: Callable[..., Job], player: Path) -> None:
        job = grpo(adapter=self.SHAPE.model_dump(), learning_rate=1e-2)
        grpo_job(job)
        ids = torch.arange(40)[None] + 5
        folder = job.output / ADAPTER_FOLDER
        difference = merge_logit_difference(load_model(player), folder, load_model(job.output), ids)
        assert difference < 1e-4
        before, after = weights(player), weights(job.output)
        assert any(not torch.equal(before[name], after[name]) for name in before)

    def test_generates_with_it_and_leaves_every_weight_as_it_was(self, player: Path) -> None:
        adapted: Any = get_peft_model(load_model(player), apply_lora_config(self.SHAPE))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        before = {n: p.detach().clone() for n, p in adapted.named_parameters()}
        base, ids = weights(player), torch.arange(20)[None] + 5
        with torch.no_grad(), merged(adapted) as model:
            query = model.model.layers[0].self_attn.q_proj.weight.clone()
        assert not torch.equal(query, base["model.layers.0.self_attn.q_proj.weight"])
        for name, weight in adapted.named_parameters():
            assert torch.equal(weight, before[name]), name
        with torch.no_grad():
            expected = adapted(input_ids=ids, use_cache=False).logits
            plain = load_model(player)
            with merged(adapted) as model:
                for name, weight in plain.named_parameters():
                    inside = name.replace("proj.weight", "proj.base_layer.weight")
                    weight.copy_(model.get_parameter(inside))
            found = plain(input_ids=ids, use_cache=False).logits
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


TWO_STEPS: dict[str, Any] = {"rounds": 6, "batch_size": 4, "lr_scheduler_type": "linear"}
"""Two steps for each round: only every second one can be resumed from."""


class TestComingBack:
    @pytest.fixture(scope="class")
    def undisturbed(
        self, player: Path, lamps: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Job:
        torch.set_num_threads(1)
        folder = tmp_path_factory.mktemp("undisturbed")
        parameters = {**SETTINGS, **TWO_STEPS}
        job = describe_job(folder, "grpo", parameters, start=player, data=lamps)
        grpo_job(job)
        return job

    def test_killed_at_a_random_time_it_ends_bit_equal(
        self, grpo: Callable[..., Job], undisturbed: Job
    ) -> None:
        seed = random.SystemRandom().randrange(1000)
        print(f"seed {seed} repeats this")
        draw = random.Random(seed)
        job = grpo(**TWO_STEPS).model_copy(update={"checkpoint_every_s": 0.0})
        self.kill(job, draw.randint(1, 4), draw.uniform(0, 0.2))
        grpo_job(job)
        assert result_bytes(job) == result_bytes(undisturbed)

    def kill(self, job: Job, rounds: int, delay_s: float) -> None:
        """Run in a process, and kill it soon after so many rounds are recorded."""
        description = job.resume.parent / "job.json"
        description.write_text(job.model_dump_json())
        process = subprocess.Popen(
            [sys.executable, "-m", "curricle.engine", str(description)],
            stderr=subprocess.DEVNULL,
        )
        try:
            journal = job.resume / JOURNAL_NAME
            deadline = time.monotonic() + 120
            while not journal.exists() or journal.read_bytes().count(b"\n") < rounds:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(delay_s)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL

    def test_a_signal_while_tries_are_made_is_heard_at_once(
        self, grpo: Callable[..., Job], undisturbed: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = grpo(**TWO_STEPS)
        step, steps = HostedEnvironments.step, iter(range(10_000))

        def interrupt(*arguments: Any) -> None:
            if next(steps) == 45:
                signal.raise_signal(signal.SIGTERM)
            step(*arguments)

        monkeypatch.setattr(HostedEnvironments, "step", interrupt)
        with pytest.raises(Interrupted, match="SIGTERM"):
            grpo_job(job)
        assert (job.resume / JOURNAL_NAME).read_bytes().count(b"\n") >= 1
        grpo_job(job)
        assert result_bytes(job) == result_bytes(undisturbed)

    def test_a_signal_within_a_round_does_not_save_half_of_it(
        self, grpo: Callable[..., Job], undisturbed: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = grpo(**TWO_STEPS)
        original, passes = Trainer.training_step, iter(range(10_000))

        def training_step(*arguments: Any, **more: Any) -> Any:
            loss = original(*arguments, **more)
            if next(passes) == 4:  # the first step of the third round
                signal.raise_signal(signal.SIGTERM)
            return loss

        monkeypatch.setattr(Trainer, "training_step", training_step)
        with pytest.raises(Interrupted, match="after step 5 of 12"):
            grpo_job(job)
        assert not list(job.resume.glob("checkpoint-*"))
        grpo_job(job)
        assert result_bytes(job) == result_bytes(undisturbed)

    def test_recorded_rewards_are_replayed_and_not_drawn_again(
        self, grpo: Callable[..., Job]
    ) -> None:
        job = grpo("recorded", rounds=3)
        grpo_job(job)
        again = grpo("again", rounds=3, misbehave={"secret": "red"})  # another lamp altogether
        lines = (job.resume / JOURNAL_NAME).read_bytes().splitlines(keepends=True)
        (again.resume / JOURNAL_NAME).write_bytes(b"".join(lines[:2]))
        grpo_job(again)
        first_two = [row for row in rewards(job) if row["round"] < 2]
        assert [row for row in rewards(again) if row["round"] < 2] == first_two
        assert [p["loss"] for p in curve(again)[:2]] == [p["loss"] for p in curve(job)[:2]]

    def test_when_memory_runs_out_the_micro_batch_shrinks_and_the_losses_stay(
        self, grpo: Callable[..., Job], undisturbed: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = grpo(**TWO_STEPS)
        original = Trainer.training_step

        def training_step(self: Any, model: Any, inputs: Any, *rest: Any) -> Any:
            if self.state.global_step > 3 and self.args.per_device_train_batch_size > 2:
                raise torch.OutOfMemoryError("out of memory")
            return original(self, model, inputs, *rest)

        monkeypatch.setattr(Trainer, "training_step", training_step)
        result = grpo_job(job)
        assert result.measured["micro_batch"] == 2
        first = 6  # later rounds are tried with weights that differ in their last bits
        found, wanted = ([p["loss"] for p in curve(j)][:first] for j in (job, undisturbed))
        assert found == pytest.approx(wanted, abs=1e-5)


class TestWhatGoesWrong:
    def test_an_environment_that_hangs_is_killed_and_masked(self, grpo: Callable[..., Job]) -> None:
        job = grpo(misbehave={"hangs_at": "gold"}, timeout_s=2.0, rounds=1, redraws=0)
        started = time.monotonic()
        result = grpo_job(job)
        assert time.monotonic() - started < 60
        assert 0 < result.effective["tries_masked"] < 8  # what shared its process is not lost
        notes = {note for row in rewards(job) for note in row["notes"]} - {""}
        assert notes == {"step took longer than 2 s and was killed"}

    def test_a_task_that_is_masked_for_its_whole_group_is_counted_and_replaced(
        self, grpo: Callable[..., Job]
    ) -> None:
        tasks = [{"lamp": 0}, {"lamp": 1, "vanished": True}, {"lamp": 2}, {"lamp": 3}]
        job = grpo(tasks=tasks, rounds=3)
        result = grpo_job(job)
        masked = [row for row in rewards(job) if set(row["rewards"]) == {None}]
        assert len(masked) == result.effective["groups_masked"] > 0
        assert {row["task"] for row in masked} == {1}
        assert masked[0]["notes"] == ["the lamp has vanished"]

    def test_a_run_of_which_nothing_can_be_scored_ends_with_its_reason(
        self, grpo: Callable[..., Job]
    ) -> None:
        job = grpo(tasks=[{"lamp": 1, "vanished": True}])
        with pytest.raises(ExecutionFailed, match="the lamp has vanished"):
            grpo_job(job)
        assert result_bytes(job) == {}

    def test_a_defect_of_the_environment_is_shown_with_its_place(
        self, grpo: Callable[..., Job]
    ) -> None:
        with pytest.raises(ExecutionFailed, match=r"(?s)KeyError.*lights\.py"):
            grpo_job(grpo(misbehave={"raises_at": "gold"}))

    def test_an_observation_that_spells_a_special_token_is_not_shown(
        self, grpo: Callable[..., Job]
    ) -> None:
        job = grpo(misbehave={"prints_at": "gold"}, rounds=2, redraws=0)
        result = grpo_job(job)
        assert result.effective["tries_masked"] == 0
        assert result.effective["tries"] == 16

    @pytest.mark.parametrize(("overlong", "masked"), [("scored", False), ("masked", True)])
    def test_a_conversation_that_outgrows_its_length_counts_as_the_parameter_says(
        self, grpo: Callable[..., Job], player: Path, overlong: str, masked: bool
    ) -> None:
        # A look and a press of the shortest colour fit; whoever says more has no room for it.
        renderer = renderer_for(load_tokenizer(player), "plain", "test")
        room = min(
            len(renderer.render(lights.played(lamp, colour)[:4], lights.TOOLS))
            for lamp in range(LAMPS) for colour in lights.COLOURS
        )  # fmt: skip
        room -= 1  # the line's end after the call is never read
        job = grpo(overlong=overlong, max_length=room, rounds=4, groups=3, batch_size=12, redraws=0)
        result = grpo_job(job)
        assert result.effective["tries_overlong"] > 0
        assert (result.effective["tries_masked"] > 0) is masked

    def test_a_batch_that_is_no_part_of_a_round_is_refused(self) -> None:
        with pytest.raises(ValueError, match="batch_size=5 does not divide the 8 tries"):
            GrpoParameters(**{**SETTINGS, "batch_size": 5})


def test_the_folder_of_a_finished_run_can_go(grpo: Callable[..., Job]) -> None:
    """Nothing that the result needs is left in the resume folder."""
    job = grpo(rounds=1)
    grpo_job(job)
    shutil.rmtree(job.resume)
    assert load_model(job.output) is not None
