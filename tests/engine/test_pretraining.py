"""The pretraining loop: what it learns, what it keeps apart, and how it comes back."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curricle.config.training import PretrainParameters
from curricle.engine import pretraining
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.objectives import labelled_logits, summed_loss
from curricle.engine.pretraining import CURVE_NAME, context_curriculum, pretrain_job
from curricle.errors import ConfigError, DataError, Interrupted
from curricle.launch.job import Job
from curricle.pipelines.corpus.packed import PackedArray
from tests.engine.conftest import MakeJob

PARAMETERS = PretrainParameters(
    learning_rate=5e-3, tokens_per_step=512, max_steps=24, precision="fp32"
).model_dump()


def curve(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.output / CURVE_NAME).read_text().splitlines()]


def result_bytes(job: Job) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in job.output.iterdir()}


@pytest.fixture
def finished(make_job: MakeJob, initial: Path, packed: Path) -> Job:
    job = make_job("pretrain", PARAMETERS, name="undisturbed", start=initial, data=packed)
    pretrain_job(job)
    return job


class TestTheCurriculum:
    def test_lengths_grow_and_tokens_per_step_stay(self, finished: Job) -> None:
        lengths = [point["seq_length"] for point in curve(finished)]
        assert lengths == sorted(lengths) and set(lengths) == {32, 64}
        slots = {point["tokens"] <= 512 for point in curve(finished)}
        assert slots == {True}

    def test_the_loss_falls(self, finished: Job) -> None:
        losses = [point["loss"] for point in curve(finished)]
        assert losses[0] == pytest.approx(np.log(512), abs=0.1), "an untrained model guesses"
        assert np.mean(losses[-4:]) < losses[0] - 0.6

    def test_one_schedule_spans_all_lengths(self, finished: Job) -> None:
        rates = [point["learning_rate"] for point in curve(finished)]
        peak = rates.index(max(rates))
        assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))

    def test_every_row_is_read_once_per_epoch(self, initial: Path, packed: Path) -> None:
        parameters = PretrainParameters(learning_rate=0, tokens_per_step=512)
        for stage in context_curriculum(packed, parameters, load_tokenizer(initial)):
            assert sorted(np.concatenate(stage.steps)) == list(range(len(stage.packed)))

    def test_a_limit_on_steps_shortens_every_length(self, initial: Path, packed: Path) -> None:
        parameters = PretrainParameters(learning_rate=0, tokens_per_step=512, max_steps=10)
        stages = context_curriculum(packed, parameters, load_tokenizer(initial))
        assert all(stage.steps for stage in stages)
        assert sum(len(stage.steps) for stage in stages) <= 10

    def test_a_rate_of_zero_changes_nothing(
        self, make_job: MakeJob, initial: Path, packed: Path
    ) -> None:
        parameters = {**PARAMETERS, "learning_rate": 0.0, "max_steps": 3}
        job = make_job("pretrain", parameters, start=initial, data=packed)
        pretrain_job(job)
        before, after = load_model(initial).state_dict(), load_model(job.output).state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


class TestIsolation:
    def test_a_packed_document_is_scored_as_if_it_were_alone(
        self, finished: Job, packed: Path
    ) -> None:
        model, tokenizer = load_model(finished.output).eval(), load_tokenizer(finished.output)
        array = PackedArray.open(packed / "train_64.npy", eos_id=0, pad_id=1)
        assert array.segments is not None
        row = next(r for r in range(len(array)) if (array.segments[:, 0] == r).sum() > 1)
        batch = array.rows([row])
        together = {
            name: torch.from_numpy(getattr(batch, name))
            for name in ("input_ids", "position_ids", "labels")
        }
        with torch.no_grad():
            logits, _ = labelled_logits(model, together)
            alone = []
            for _, start, length in array.segments[array.segments[:, 0] == row]:
                ids = torch.from_numpy(batch.input_ids[:, start : start + length])
                if length > 1:
                    alone.append(model(input_ids=ids, use_cache=False).logits[0, :-1])
        torch.testing.assert_close(logits, torch.cat(alone), atol=1e-5, rtol=0)
        assert tokenizer.eos_token_id == 0

    def test_the_loss_equals_the_model_s_own(self, initial: Path) -> None:
        model = load_model(initial)
        ids = torch.randint(4, 512, (3, 20), generator=torch.Generator().manual_seed(0))
        ours = summed_loss(model, {"input_ids": ids, "labels": ids}) / (3 * 19)
        torch.testing.assert_close(ours, model(input_ids=ids, labels=ids, use_cache=False).loss)


class TestComingBack:
    @pytest.mark.parametrize("after", [1, 9, 17])
    def test_an_interrupted_run_ends_bit_equal(
        self, make_job: MakeJob, initial: Path, packed: Path, finished: Job, after: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        job = make_job("pretrain", PARAMETERS, start=initial, data=packed)
        step = pretraining.Pretrainer._step

        def signalled(self: Any, number: int, *rest: Any) -> Any:
            if number == after:
                signal.raise_signal(signal.SIGTERM)
            return step(self, number, *rest)

        with monkeypatch.context() as patched:
            patched.setattr(pretraining.Pretrainer, "_step", signalled)
            with pytest.raises(Interrupted, match=f"SIGTERM after step {after + 1} of"):
                pretrain_job(job)
        assert (job.resume / f"checkpoint-{after + 1}").exists()
        pretrain_job(job)
        assert result_bytes(job) == result_bytes(finished)

    def test_a_broken_checkpoint_is_skipped_and_the_result_is_the_same(
        self, make_job: MakeJob, initial: Path, packed: Path, finished: Job,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        every = make_job("pretrain", PARAMETERS, start=initial, data=packed)
        job = every.model_copy(update={"checkpoint_every_s": 0.0, "keep_checkpoints": 3})
        pretrain_job(job)
        newest = max(job.resume.iterdir(), key=lambda path: int(path.name.split("-")[1]))
        (newest / "state.pt").write_bytes(b"truncated")
        shutil.rmtree(job.output)
        job.output.mkdir()
        pretrain_job(job)
        assert f"skipped {newest.name}" in caplog.text
        assert result_bytes(job) == result_bytes(finished)

    def test_memory_that_runs_out_halves_the_micro_batch_and_keeps_the_losses(
        self, make_job: MakeJob, initial: Path, packed: Path, finished: Job,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        job = make_job("pretrain", PARAMETERS, start=initial, data=packed)
        calls = iter(range(1000))

        def small_memory(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            if next(calls) >= 5 and batch["input_ids"].numel() > 256:
                raise torch.OutOfMemoryError("out of memory")
            return summed_loss(model, batch)

        monkeypatch.setattr(pretraining, "summed_loss", small_memory)
        result = pretrain_job(job)
        assert result.measured["micro_batch"] == 4
        ours = [point["loss"] for point in curve(job)]
        theirs = [point["loss"] for point in curve(finished)]
        assert ours == pytest.approx(theirs, abs=1e-5)


class TestBadInput:
    def test_an_empty_corpus_folder_names_what_to_run(
        self, make_job: MakeJob, initial: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match="Run the corpus pipeline first"):
            pretrain_job(make_job("pretrain", PARAMETERS, start=initial, data=tmp_path))

    def test_tokens_beyond_the_vocabulary_are_named(
        self, make_job: MakeJob, initial: Path, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "train_32.npy", np.full((4, 32), 512))
        with pytest.raises(DataError, match=r"row 0 holds token 512, outside the vocabulary"):
            pretrain_job(make_job("pretrain", PARAMETERS, start=initial, data=tmp_path))

    def test_a_step_shorter_than_a_row_is_refused(
        self, make_job: MakeJob, initial: Path, packed: Path
    ) -> None:
        parameters = {**PARAMETERS, "tokens_per_step": 48}
        with pytest.raises(ConfigError, match="less than one row of the longest context, 64"):
            pretrain_job(make_job("pretrain", parameters, start=initial, data=packed))

    def test_a_context_longer_than_the_model_is_refused(
        self, make_job: MakeJob, initial: Path, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "train_256.npy", np.full((4, 256), 5))
        with pytest.raises(ConfigError, match="reaches 256 tokens, the model only 128"):
            pretrain_job(make_job("pretrain", PARAMETERS, start=initial, data=tmp_path))


def test_outside_the_main_thread_a_job_still_runs(
    make_job: MakeJob, initial: Path, packed: Path
) -> None:
    job = make_job("pretrain", {**PARAMETERS, "max_steps": 2}, start=initial, data=packed)
    thread = threading.Thread(target=pretrain_job, args=(job,))
    thread.start()
    thread.join()
    assert curve(job)
