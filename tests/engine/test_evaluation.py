"""Metrics mean what they say: untrained models guess, silence is no answer, ties are no wins."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curricle.config.training import (
    DpoParameters,
    EvaluateParameters,
    LoraParameters,
    SftParameters,
)
from curricle.engine.adapters import lora_job
from curricle.engine.evaluation import MEASURES, evaluate_job
from curricle.engine.generation import greedy_answers
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.post_training import dpo_job, sft_job
from curricle.engine.rendering import attach_chat_template
from curricle.errors import DataError
from curricle.pipelines.corpus.packed import PackedArray
from curricle.pipelines.sft.rows import read_rows, write_rows
from curricle.stages.metrics import METRIC_GROUPS
from tests.engine.conftest import WORDS, answered, asked, describe_job, refused

Measure = Callable[..., dict[str, float]]

LEARN_BY_HEART = SftParameters(
    learning_rate=1e-2, max_length=64, batch_size=4, num_train_epochs=1000, max_steps=150,
    precision="fp32", min_lr_share=0.0,
).model_dump()  # fmt: skip


@pytest.fixture
def measure(tmp_path: Path, packed: Path) -> Measure:
    """Return a function that measures groups of metrics of a checkpoint."""

    def metrics(*groups: str, candidate: Path, data: Path, **inputs: Path) -> dict[str, float]:
        limits = EvaluateParameters(max_new_tokens=24).model_dump()
        job = describe_job(
            tmp_path / "evaluation", "evaluate", {**limits, "groups": list(groups)},
            candidate=candidate, data=data, heldout=packed, **inputs,
        )  # fmt: skip
        evaluate_job(job)
        read: dict[str, float] = json.loads((job.output / "metrics.json").read_text())
        return read

    return metrics


def taught(
    folder: Path, start: Path, replies: Callable[[str], dict[str, str]], **changed: Any
) -> tuple[Path, Path]:
    """A model that learned one reply to each word by heart, and the data that taught it."""
    torch.set_num_threads(1)
    data = folder / "data"
    data.mkdir()
    rows = [{"messages": [asked(word), replies(word)]} for word in WORDS]
    write_rows(data / "train.jsonl", rows)
    write_rows(data / "heldout.jsonl", rows)
    write_rows(data / "requests_heldout.jsonl", [
        {"prompt": asked(word)["content"], "unsafe": number % 2 == 0, "id": word}
        for number, word in enumerate(WORDS)
    ])  # fmt: skip
    job = describe_job(folder, "sft", {**LEARN_BY_HEART, **changed}, start=start, data=data)
    sft_job(job)
    return job.output, data


@pytest.fixture(scope="module")
def answers_all(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return taught(tmp_path_factory.mktemp("answers_all"), initial, answered)


@pytest.fixture(scope="module")
def says_nothing(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    def silence(word: str) -> dict[str, str]:
        return {"role": "assistant", "content": ""}

    return taught(tmp_path_factory.mktemp("says_nothing"), initial, silence, max_steps=20)


@pytest.fixture(scope="module")
def refuses_unsafe(initial: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    def reply(word: str) -> dict[str, str]:
        return refused(word) if WORDS.index(word) % 2 == 0 else answered(word)

    return taught(tmp_path_factory.mktemp("refuses_unsafe"), initial, reply)


def test_every_group_measures_the_metrics_that_a_gate_may_name() -> None:
    assert set(MEASURES) == set(METRIC_GROUPS)


class TestLanguage:
    def test_an_untrained_model_is_as_unsure_as_its_vocabulary_is_large(
        self, measure: Measure, initial: Path, chat: Path
    ) -> None:
        metrics = measure("language", candidate=initial, data=chat)
        assert metrics["perplexity"] == pytest.approx(512, rel=0.1)
        assert metrics["next_token_accuracy"] < 0.05

    def test_a_document_is_measured_as_if_it_were_alone(
        self, measure: Measure, answers_all: tuple[Path, Path], packed: Path
    ) -> None:
        candidate, data = answers_all
        measured = measure("language", candidate=candidate, data=data)
        model = load_model(candidate).eval()
        array = PackedArray.open(packed / "heldout_64.npy", eos_id=0, pad_id=1)
        assert array.segments is not None
        nats, tokens = 0.0, 0
        for row, start, length in array.segments:
            if length < 2:
                continue
            ids = torch.tensor(array.tokens[row, start : start + length])[None]
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            nats += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            tokens += int(length) - 1
        assert len(array) <= 256 and len(array.segments) > len(array), "rows hold several"
        assert measured["perplexity"] == pytest.approx(np.exp(nats / tokens), rel=1e-4)


class TestChatAndTask:
    def test_what_was_learned_by_heart_is_nearly_all_right(
        self, measure: Measure, answers_all: tuple[Path, Path]
    ) -> None:
        candidate, data = answers_all
        metrics = measure("chat", "task", candidate=candidate, data=data)
        assert metrics["assistant_token_accuracy"] > 0.95
        assert metrics["task_accuracy"] > 0.8

    def test_an_untrained_model_gets_nothing_right(
        self, measure: Measure, initial: Path, chat: Path
    ) -> None:
        metrics = measure("chat", "task", candidate=initial, data=chat)
        assert metrics["assistant_token_accuracy"] < 0.1
        assert metrics["task_accuracy"] == 0


class TestRequests:
    def test_silence_neither_refuses_nor_answers(
        self, measure: Measure, says_nothing: tuple[Path, Path], tmp_path: Path
    ) -> None:
        candidate, data = says_nothing
        metrics = measure("requests", candidate=candidate, data=data)
        transcripts = tmp_path / "evaluation" / "result" / "answers.jsonl"
        assert {row["answer"] for _, row in read_rows(transcripts)} == {""}
        assert metrics == {"refusal_rate": 0.0, "over_refusal_rate": 1.0}

    def test_a_model_that_answers_everything_refuses_nothing(
        self, measure: Measure, answers_all: tuple[Path, Path]
    ) -> None:
        candidate, data = answers_all
        metrics = measure("requests", candidate=candidate, data=data)
        assert metrics == {"refusal_rate": 0.0, "over_refusal_rate": 0.0}

    def test_a_model_that_tells_them_apart_is_recognised(
        self, measure: Measure, refuses_unsafe: tuple[Path, Path], tmp_path: Path
    ) -> None:
        candidate, data = refuses_unsafe
        metrics = measure("requests", candidate=candidate, data=data)
        assert metrics["refusal_rate"] > 0.8 and metrics["over_refusal_rate"] < 0.2
        transcripts = tmp_path / "evaluation" / "result" / "answers.jsonl"
        assert len(list(read_rows(transcripts))) == len(WORDS)

    def test_one_kind_of_request_alone_gives_no_rate(
        self, measure: Measure, initial: Path, tmp_path: Path
    ) -> None:
        only = [{"prompt": "x", "unsafe": True, "id": "x"}]
        write_rows(tmp_path / "requests_heldout.jsonl", only)
        with pytest.raises(DataError, match="1 unsafe and 0 safe requests"):
            measure("requests", candidate=initial, data=tmp_path)


class TestPreference:
    def test_training_on_the_very_pairs_prefers_the_chosen(
        self, measure: Measure, initial: Path, pairs: Path, tmp_path: Path
    ) -> None:
        parameters = DpoParameters(
            learning_rate=3e-3, max_length=96, batch_size=4, num_train_epochs=9, max_steps=16,
            precision="fp32",
        ).model_dump()  # fmt: skip
        job = describe_job(tmp_path / "dpo", "dpo", parameters, start=initial, data=pairs)
        dpo_job(job)
        metrics = measure("preference", candidate=job.output, data=pairs, parent=initial)
        assert metrics["preference_accuracy"] > 0.9
        assert metrics["ranking_accuracy"] > 0.9
        assert metrics["reward_margin"] > 1.0

    def test_a_model_that_gained_nothing_over_its_parent_prefers_nothing(
        self, measure: Measure, initial: Path, pairs: Path
    ) -> None:
        metrics = measure("preference", candidate=initial, data=pairs, parent=initial)
        assert metrics["preference_accuracy"] == 0
        assert metrics["reward_margin"] == 0

    def test_a_model_that_learned_the_opposite_has_the_opposite_sign(
        self, measure: Measure, refuses_unsafe: tuple[Path, Path],
        answers_all: tuple[Path, Path], pairs: Path,
    ) -> None:  # fmt: skip
        metrics = measure(
            "preference", candidate=refuses_unsafe[0], data=pairs, parent=answers_all[0]
        )
        assert metrics["preference_accuracy"] < 0.5
        assert metrics["reward_margin"] < 0


def test_the_merged_adapter_is_measured_against_its_parent(
    measure: Measure, initial: Path, answers_all: tuple[Path, Path], tmp_path: Path
) -> None:
    _, data = answers_all
    parameters = LoraParameters(
        learning_rate=1e-2, max_length=64, batch_size=4, max_steps=3, precision="fp32", r=4
    ).model_dump()
    job = describe_job(tmp_path / "lora", "lora", parameters, start=initial, data=data)
    lora_job(job)
    metrics = measure("merge", candidate=job.output, data=data, parent=initial)
    assert metrics["merge_logit_difference"] < 1e-4


def test_answers_in_a_batch_equal_answers_one_by_one(answers_all: tuple[Path, Path]) -> None:
    model, tokenizer = load_model(answers_all[0]).eval(), load_tokenizer(answers_all[0])
    attach_chat_template(tokenizer)
    prompts = [[asked(word)] for word in WORDS]
    prompts += [[asked(a), answered(a), asked(b)] for a, b in itertools.pairwise(WORDS)]
    alone = [
        answer for prompt in prompts for answer in greedy_answers(model, tokenizer, [prompt], 24, 1)
    ]
    assert greedy_answers(model, tokenizer, prompts, 24, 8) == alone
    assert alone[0] == answered(WORDS[0])["content"]


class TestBadInput:
    @pytest.mark.parametrize("group", ["chat", "task", "preference", "requests"])
    def test_a_missing_held_out_file_is_named(
        self, measure: Measure, initial: Path, tmp_path: Path, group: str
    ) -> None:
        name = "requests_heldout.jsonl" if group == "requests" else "heldout.jsonl"
        with pytest.raises(DataError, match=f"{tmp_path}/{name} is missing"):
            measure(group, candidate=initial, data=tmp_path, parent=initial)

    @pytest.mark.parametrize("group", ["chat", "task", "preference", "merge"])
    def test_an_empty_held_out_file_is_named(
        self, measure: Measure, initial: Path, tmp_path: Path, group: str
    ) -> None:
        (tmp_path / "heldout.jsonl").touch()
        with pytest.raises(DataError, match=r"heldout\.jsonl is empty"):
            measure(group, candidate=initial, data=tmp_path, parent=initial)
