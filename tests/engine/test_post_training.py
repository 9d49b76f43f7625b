"""SFT, DPO and LoRA: the loss is TRL's, samples stay apart, and every run can come back."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerFast as Tokenizer
from transformers import Trainer
from trl import SFTTrainer

from curricle.config.training import DpoParameters, LoraParameters, SftParameters
from curricle.engine.adapters import (
    ADAPTER_FOLDER,
    apply_lora_config,
    lora_job,
    merge_logit_difference,
)
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.objectives import labelled_logits
from curricle.engine.post_training import (
    PackedRows,
    dpo_job,
    packed_conversations,
    sft_job,
    sft_trainer,
)
from curricle.engine.pretraining import CURVE_NAME
from curricle.engine.rendering import attach_chat_template
from curricle.errors import ConfigError, DataError, Interrupted
from curricle.launch.job import Job, JobResult
from curricle.pipelines.corpus.packed import IGNORED, PackedArray
from curricle.pipelines.sft.rows import write_rows
from tests.engine.conftest import MakeJob, answered, asked, describe_job

LENGTH = 96

SFT = SftParameters(
    learning_rate=2e-3, max_length=LENGTH, batch_size=4, num_train_epochs=8, max_steps=6,
    precision="fp32", replay_share=0.25,
)  # fmt: skip
DPO = DpoParameters(
    learning_rate=2e-3, max_length=LENGTH, batch_size=4, num_train_epochs=8, max_steps=6,
    precision="fp32",
)  # fmt: skip
LORA = LoraParameters(
    learning_rate=5e-3, max_length=LENGTH, batch_size=4, num_train_epochs=8, max_steps=6,
    precision="fp32", r=4, lora_alpha=8,
)  # fmt: skip

RUN: dict[str, Callable[[Job], JobResult]] = {"sft": sft_job, "dpo": dpo_job, "lora": lora_job}
PARAMETERS = {"sft": SFT.model_dump(), "dpo": DPO.model_dump(), "lora": LORA.model_dump()}


def curve(job: Job) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job.output / CURVE_NAME).read_text().splitlines()]


def losses(job: Job) -> list[float]:
    return [point["loss"] for point in curve(job)]


def result_bytes(job: Job) -> dict[str, bytes]:
    files = (path for path in job.output.rglob("*") if path.is_file())
    return {path.relative_to(job.output).as_posix(): path.read_bytes() for path in files}


@contextmanager
def disturbed(number: int, disturb: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Call ``disturb`` with the inputs of every forward and backward pass from ``number`` on."""
    original = Trainer.training_step
    passes = iter(range(10_000))

    def training_step(self: Trainer, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        if next(passes) >= number:
            disturb(inputs)
        return original(self, model, inputs, *rest, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "training_step", training_step)
        yield


@pytest.fixture(scope="module")
def inputs(initial: Path, chat: Path, pairs: Path, packed: Path) -> dict[str, dict[str, Path]]:
    """The inputs of each kind of job."""
    spoken = {"start": initial, "data": chat, "replay": packed}
    return {"sft": spoken, "lora": spoken, "dpo": {"start": initial, "data": pairs}}


@pytest.fixture(scope="module")
def undisturbed(
    inputs: dict[str, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Job]:
    """Return a function that gives a job which ran to its end in one go."""
    torch.set_num_threads(1)
    finished: dict[str, Job] = {}

    def undisturbed_job(kind: str) -> Job:
        if kind not in finished:
            folder = tmp_path_factory.mktemp(f"undisturbed_{kind}")
            job = describe_job(folder, kind, PARAMETERS[kind], **inputs[kind])
            RUN[kind](job)
            finished[kind] = job
        return finished[kind]

    return undisturbed_job


@pytest.fixture
def tokenizer(initial: Path) -> Tokenizer:
    loaded = load_tokenizer(initial)
    attach_chat_template(loaded)
    return loaded


@pytest.fixture
def sft(make_job: MakeJob, inputs: dict[str, dict[str, Path]]) -> Job:
    return make_job("sft", PARAMETERS["sft"], **inputs["sft"])


class TestPackedConversations:
    def test_only_what_the_assistant_says_has_labels(self, sft: Job, tokenizer: Tokenizer) -> None:
        parameters = SFT.model_copy(update={"replay_share": 0.0})
        rows, recorded = packed_conversations(tokenizer, sft, parameters)
        batch = PackedRows(LENGTH, tokenizer.pad_token_id)(list(rows))
        text = tokenizer.decode(batch["labels"][batch["labels"] != IGNORED])
        turns = sorted(turn for turn in text.split("<|im_end|>") if turn)
        spoken = [
            turn["content"]
            for line in (sft.inputs["data"] / "train.jsonl").read_text().splitlines()
            for turn in json.loads(line)["messages"]
            if turn["role"] == "assistant"
        ]
        assert turns == sorted(spoken)
        assert recorded["assistant_token_share"] == pytest.approx(
            float((batch["labels"] != IGNORED).sum()) / sum(len(r["input_ids"]) for r in rows),
            abs=1e-4,
        )

    def test_a_conversation_in_a_row_is_scored_as_if_it_were_alone(
        self, sft: Job, tokenizer: Tokenizer
    ) -> None:
        rows, _ = packed_conversations(tokenizer, sft, SFT)
        row = next(row for row in rows if len(row["seq_lengths"]) > 1)
        model = load_model(sft.inputs["start"]).eval()
        batch = PackedRows(LENGTH, tokenizer.pad_token_id)([row])
        bounds = np.cumsum([0, *row["seq_lengths"]])
        with torch.no_grad():
            together, _ = labelled_logits(model, batch)
            alone = []
            for start, stop in itertools.pairwise(bounds):
                ids, labels = (
                    torch.tensor([row[name][start:stop]]) for name in ("input_ids", "labels")
                )
                logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
                alone.append(logits[labels[:, 1:] != IGNORED])
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)

    def test_too_long_ones_are_dropped_and_counted_never_cut(
        self, sft: Job, tokenizer: Tokenizer
    ) -> None:
        short = SFT.model_copy(update={"max_length": 48, "replay_share": 0.0})
        everything, all_recorded = packed_conversations(tokenizer, sft, SFT)
        rows, recorded = packed_conversations(tokenizer, sft, short)
        assert recorded["dropped_too_long"] > 0
        total = all_recorded["samples"]
        assert recorded["samples"] + recorded["dropped_too_long"] == total == 18

        def samples(packed_rows: Any) -> set[tuple[int, ...]]:
            found = set()
            for row in packed_rows:
                bounds = np.cumsum([0, *row["seq_lengths"]])
                found |= {tuple(row["input_ids"][a:b]) for a, b in itertools.pairwise(bounds)}
            return found

        assert samples(rows) < samples(everything)

    def test_when_none_is_short_enough_it_says_what_to_raise(
        self, sft: Job, tokenizer: Tokenizer
    ) -> None:
        tiny = SFT.model_copy(update={"max_length": 4})
        with pytest.raises(DataError, match="none of 18 conversations has at most max_length=4"):
            packed_conversations(tokenizer, sft, tiny)

    @pytest.mark.parametrize("share", [0.25, 0.5])
    def test_replayed_rows_make_up_their_share_and_train_every_token(
        self, sft: Job, tokenizer: Tokenizer, share: float
    ) -> None:
        rows, recorded = packed_conversations(
            tokenizer, sft, SFT.model_copy(update={"replay_share": share})
        )
        replayed = recorded["replayed_rows"]
        assert replayed / (replayed + recorded["packed_rows"]) == pytest.approx(share, abs=0.08)
        array = PackedArray.open(sft.inputs["replay"] / "train_64.npy", eos_id=0, pad_id=1)
        corpus = {tuple(row): number for number, row in enumerate(array.tokens.tolist())}
        for row in list(rows)[recorded["packed_rows"] :]:
            original = array.rows([corpus[tuple(row["input_ids"])]])
            assert row["labels"] == original.labels[0].tolist()
            written = sum(token != tokenizer.pad_token_id for token in row["input_ids"])
            trained = sum(label != IGNORED for label in row["labels"])
            assert trained >= written - len(row["seq_lengths"])

    def test_replay_longer_than_a_row_is_refused(self, sft: Job, tokenizer: Tokenizer) -> None:
        narrow = SFT.model_copy(update={"max_length": 31, "replay_share": 0.5})
        with pytest.raises((ConfigError, DataError), match="max_length=31"):
            packed_conversations(tokenizer, sft, narrow)


class TestTheLossOfSFT:
    def test_it_equals_trl_s_own_and_so_do_its_gradients(
        self, sft: Job, tokenizer: Tokenizer
    ) -> None:
        rows, _ = packed_conversations(tokenizer, sft, SFT)
        ours = sft_trainer(
            sft, SFT, load_model(sft.inputs["start"]), tokenizer, rows, micro_batch=4
        )
        theirs = SFTTrainer(
            model=load_model(sft.inputs["start"]), args=ours.args, train_dataset=rows,
            processing_class=tokenizer, data_collator=ours.data_collator,
        )  # fmt: skip
        batch = ours.data_collator([rows[0], rows[1], rows[len(rows) - 1]])
        count = (batch["labels"] != IGNORED).sum()
        results = []
        for trainer in (ours, theirs):
            trainer.model.train()
            loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
            loss.backward()
            results.append((loss.detach(), [p.grad for p in trainer.model.parameters()]))
        (our_loss, our_gradients), (trl_loss, trl_gradients) = results
        assert float(our_loss) == pytest.approx(float(trl_loss), abs=1e-5)
        for mine, its in zip(our_gradients, trl_gradients, strict=True):
            torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-4)

    def test_it_falls(self, undisturbed: Callable[[str], Job]) -> None:
        measured = losses(undisturbed("sft"))
        assert measured[0] == pytest.approx(math.log(512), abs=0.2), "an untrained model guesses"
        assert measured[-1] < measured[0] - 0.2


class TestPreferences:
    @pytest.mark.parametrize(
        ("loss_type", "initial_loss"), [("sigmoid", math.log(2)), ("ipo", 1 / (4 * 0.1**2))]
    )
    def test_a_loss_starts_where_nothing_is_preferred_and_the_margin_rises(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]], loss_type: str,
        initial_loss: float,
    ) -> None:  # fmt: skip
        parameters = {**PARAMETERS["dpo"], "loss_type": loss_type, "beta": 0.1}
        job = make_job("dpo", parameters, **inputs["dpo"])
        result = dpo_job(job)
        points = curve(job)
        assert points[0]["loss"] == pytest.approx(initial_loss, rel=1e-3)
        assert points[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
        assert points[-1]["rewards/margins"] > 0.02
        assert points[-1]["loss"] < points[0]["loss"]
        assert result.effective["pairs"] == 12

    def test_the_chosen_answer_s_own_likelihood_can_be_added(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]]
    ) -> None:
        parameters = {**PARAMETERS["dpo"], "sft_weight": 0.5, "max_steps": 1}
        job = make_job("dpo", parameters, **inputs["dpo"])
        dpo_job(job)
        assert losses(job)[0] == pytest.approx(math.log(2) + 0.5 * math.log(512), abs=0.2)

    def test_identical_answers_are_an_error_that_names_the_row(
        self, make_job: MakeJob, initial: Path, tmp_path: Path
    ) -> None:
        row = {"prompt": [asked("x")], "chosen": [answered("x")], "rejected": [answered("x")]}
        fine = {**row, "rejected": [answered("other")]}
        write_rows(tmp_path / "train.jsonl", [fine, row])
        with pytest.raises(DataError, match="row 2: chosen and rejected are identical"):
            dpo_job(make_job("dpo", PARAMETERS["dpo"], start=initial, data=tmp_path))

    def test_an_answer_that_spells_a_special_token_is_an_error(
        self, make_job: MakeJob, initial: Path, tmp_path: Path
    ) -> None:
        fake = {"role": "assistant", "content": "x<|im_end|>"}
        row = {"prompt": [asked("x")], "chosen": [answered("x")], "rejected": [fake]}
        write_rows(tmp_path / "train.jsonl", [row])
        with pytest.raises(DataError, match=r"train\.jsonl, row 1, message 2.*<\|im_end\|>"):
            dpo_job(make_job("dpo", PARAMETERS["dpo"], start=initial, data=tmp_path))

    def test_pairs_that_are_too_long_are_counted(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]]
    ) -> None:
        parameters = {**PARAMETERS["dpo"], "max_length": 4}
        with pytest.raises(DataError, match="none of 12 pairs has at most max_length=4"):
            dpo_job(make_job("dpo", parameters, **inputs["dpo"]))


class TestTheAdapter:
    def test_only_it_trains_and_the_base_stays_as_it_was(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]], tokenizer: Tokenizer
    ) -> None:
        job = make_job("lora", PARAMETERS["lora"], **inputs["lora"])
        rows, _ = packed_conversations(tokenizer, job, LORA)
        trainer = sft_trainer(
            job, LORA, load_model(job.inputs["start"]), tokenizer, rows, micro_batch=4,
            peft_config=apply_lora_config(LORA),
        )  # fmt: skip
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.train()
        changed = {
            name
            for name, parameter in trainer.model.named_parameters()
            if not torch.equal(before[name], parameter)
        }
        assert changed and all(".lora_" in name for name in changed)
        base = load_model(job.inputs["start"]).state_dict()
        trained = trainer.model.get_base_model().state_dict()
        for name, weights in base.items():
            wrapped = name.replace(".weight", ".base_layer.weight")
            assert torch.equal(weights, trained[wrapped if wrapped in trained else name])

    def test_the_merged_model_is_the_adapted_one(self, undisturbed: Callable[[str], Job]) -> None:
        job = undisturbed("lora")
        ids = torch.randint(4, 512, (2, 40), generator=torch.Generator().manual_seed(0))
        start, merged = (load_model(f).eval() for f in (job.inputs["start"], job.output))
        unadapted = merged(input_ids=ids).logits - start(input_ids=ids).logits
        assert float(unadapted.detach().abs().max()) > 1e-2, "training changed nothing"
        adapter = job.output / ADAPTER_FOLDER
        assert merge_logit_difference(start, adapter, merged, ids) < 1e-4

    def test_it_can_be_used_without_the_merged_checkpoint(
        self, undisturbed: Callable[[str], Job]
    ) -> None:
        job = undisturbed("lora")
        adapted = PeftModel.from_pretrained(
            load_model(job.inputs["start"]), job.output / ADAPTER_FOLDER
        )
        assert sum("lora_" in name for name, _ in adapted.named_parameters()) == 2 * 2 * 7

    def test_its_configuration_is_written_in_the_same_order_by_every_process(
        self, undisturbed: Callable[[str], Job]
    ) -> None:
        path = undisturbed("lora").output / ADAPTER_FOLDER / "adapter_config.json"
        modules = json.loads(path.read_text())["target_modules"]
        assert modules == sorted(modules) and len(modules) == 2 * 7

    def test_what_was_in_force_is_recorded(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]]
    ) -> None:
        parameters = {**PARAMETERS["lora"], "max_steps": 1, "target_modules": ["q_proj", "v_proj"]}
        effective = lora_job(make_job("lora", parameters, **inputs["lora"])).effective
        assert effective["adapted_modules"] == ["q_proj", "v_proj"]
        assert effective["trainable_parameters"] == 2 * (4 * (32 + 32) + 4 * (32 + 16))
        assert (effective["precision"], effective["steps"]) == ("fp32", 1)

    @pytest.mark.parametrize(
        ("targets", "said"),
        [
            ({"target_modules": ["q_proj", "w_proj"]}, "target_modules: w_proj matches nothing"),
            ({"target_modules": "experts.*"}, r"target_modules: experts\.\* matches nothing"),
            ({"target_parameters": ["experts.gate_up_proj"]}, "target_parameters: experts.gate_up"),
            ({"target_modules": []}, "target_modules is empty"),
        ],
    )
    def test_a_target_that_matches_nothing_is_named(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]], targets: dict[str, Any],
        said: str,
    ) -> None:  # fmt: skip
        job = make_job("lora", {**PARAMETERS["lora"], **targets}, **inputs["lora"])
        with pytest.raises(ConfigError, match=said):
            lora_job(job)


@pytest.mark.parametrize("kind", ["sft", "dpo", "lora"])
def test_layers_compute_in_the_precision_that_was_asked_for(
    make_job: MakeJob, inputs: dict[str, dict[str, Path]], kind: str
) -> None:
    job = make_job(kind, {**PARAMETERS[kind], "max_steps": 1}, **inputs[kind])
    # It would raise: a witness looks on.
    result = RUN[kind](job.model_copy(update={"precision": "bf16"}))
    assert result.effective["precision"] == "bf16"


@pytest.mark.parametrize("kind", ["sft", "dpo", "lora"])
class TestComingBack:
    @pytest.mark.parametrize("after", [0, 3])
    def test_an_interrupted_run_ends_bit_equal(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]],
        undisturbed: Callable[[str], Job], kind: str, after: int,
    ) -> None:  # fmt: skip
        job = make_job(kind, PARAMETERS[kind], **inputs[kind])
        with (
            disturbed(after, lambda _: signal.raise_signal(signal.SIGTERM)),
            pytest.raises(Interrupted, match=f"SIGTERM after step {after + 1} of 6"),
        ):
            RUN[kind](job)
        assert [path.name for path in job.resume.iterdir()] == [f"checkpoint-{after + 1}"]
        assert result_bytes(job) == {}
        RUN[kind](job)
        assert result_bytes(job) == result_bytes(undisturbed(kind))

    def test_a_result_names_no_path_of_this_machine(
        self, undisturbed: Callable[[str], Job], kind: str
    ) -> None:
        job = undisturbed(kind)
        places = {*job.inputs.values(), job.output, job.resume, Path.cwd(), Path.home()}
        for name, content in result_bytes(job).items():
            found = [place for place in places if str(place).encode() in content]
            assert not found, f"{name} names {found}"


@pytest.mark.parametrize("fault", ["unfinished", "edited"])
def test_a_checkpoint_that_is_not_whole_is_skipped_and_the_result_is_the_same(
    make_job: MakeJob, inputs: dict[str, dict[str, Path]], undisturbed: Callable[[str], Job],
    fault: str, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    described = make_job("sft", PARAMETERS["sft"], **inputs["sft"])
    job = described.model_copy(update={"checkpoint_every_s": 0.0})
    with (
        disturbed(3, lambda _: signal.raise_signal(signal.SIGTERM)),
        pytest.raises(Interrupted),
    ):
        sft_job(job)
    assert {path.name for path in job.resume.iterdir()} == {"checkpoint-3", "checkpoint-4"}
    if fault == "unfinished":
        (job.resume / "checkpoint-4" / "manifest.json").unlink()
    else:
        (job.resume / "checkpoint-4" / "optimizer.pt").write_bytes(b"truncated")
    sft_job(described)
    assert "skipped checkpoint-4" in caplog.text
    assert result_bytes(job) == result_bytes(undisturbed("sft"))


class TestMemoryThatRunsOut:
    @pytest.mark.parametrize(("kind", "batch_size"), [("sft", 4), ("sft", 5), ("dpo", 4)])
    def test_the_micro_batch_shrinks_and_the_losses_stay(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]], kind: str, batch_size: int
    ) -> None:
        parameters = {**PARAMETERS[kind], "batch_size": batch_size, "max_steps": 4}
        whole = make_job(kind, parameters, name="whole", **inputs[kind])
        job = make_job(kind, parameters, **inputs[kind])
        RUN[kind](whole)
        most = 2 * (2 if kind == "dpo" else 1)  # a pair is two rows

        def small_memory(batch: dict[str, torch.Tensor]) -> None:
            if len(batch["input_ids"]) > most:
                raise torch.OutOfMemoryError("out of memory")

        with disturbed(2, small_memory):
            result = RUN[kind](job.model_copy(update={"checkpoint_every_s": 0.0}))
        assert result.measured["micro_batch"] == {4: 2, 5: 1}[batch_size]
        assert losses(job) == pytest.approx(losses(whole), abs=1e-5)
        ours, theirs = (load_model(j.output).state_dict() for j in (job, whole))
        for name, weights in theirs.items():
            torch.testing.assert_close(ours[name], weights, atol=1e-4, rtol=0)

    def test_with_recovery_off_the_error_is_the_library_s(
        self, make_job: MakeJob, inputs: dict[str, dict[str, Path]]
    ) -> None:
        job = make_job("sft", {**PARAMETERS["sft"], "oom_recovery": False}, **inputs["sft"])

        def no_memory(batch: Any) -> None:
            raise torch.OutOfMemoryError("out of memory")

        with disturbed(0, no_memory), pytest.raises(torch.OutOfMemoryError):
            sft_job(job)


def test_a_missing_file_is_named(make_job: MakeJob, initial: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: no such file"):
        sft_job(make_job("sft", PARAMETERS["sft"], start=initial, data=tmp_path))
    shutil.rmtree(tmp_path / "job")
