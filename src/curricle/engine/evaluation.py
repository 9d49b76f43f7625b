"""Measures a candidate, group by group, on data that no stage trained on.

Documents are isolated: a held-out row may hold several, and a model that saw the neighbour would
look better than it is. Ties and empty answers never count in the model's favour.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.agents.scoring import fixed_rate
from curricle.agents.statistics import wilson_rate
from curricle.config.training import EvaluateParameters
from curricle.engine.adapters import ADAPTER_FOLDER, merge_logit_difference
from curricle.engine.agent_rollouts import ATTEMPTS, attempt_tasks, stored_tasks, write_attempts
from curricle.engine.agent_rows import render_samples
from curricle.engine.generation import greedy_answers
from curricle.engine.hardware import device
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.objectives import labelled_logits
from curricle.engine.post_training import PackedRows
from curricle.engine.precision import autocast
from curricle.engine.pretraining import open_packed
from curricle.engine.rendering import Rendered, attach_chat_template, render, render_row
from curricle.errors import ConfigError, DataError
from curricle.launch.job import Job, JobResult
from curricle.pipelines.corpus.packed import IGNORED
from curricle.pipelines.sft.requests import is_answer, is_refusal
from curricle.pipelines.sft.rows import read_rows, write_rows

Metrics = dict[str, float]

_MERGE_TOKENS = 64
"""Of a conversation: a merge goes wrong layer by layer, not token by token."""


@dataclass(frozen=True)
class Subject:
    """What is measured, and on what.

    Attributes:
        job: names the stored inputs.
        parameters: sizes.
        model: the candidate, in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
    """

    job: Job
    parameters: EvaluateParameters
    model: PreTrainedModel
    tokenizer: Tokenizer

    @cached_property
    def parent(self) -> PreTrainedModel:
        """The checkpoint that the stage started from."""
        return load_model(self.job.inputs["parent"]).eval()


def evaluate_job(job: Job) -> JobResult:
    """Measure the groups that the job names, and write ``metrics.json``."""
    parameters = dict(job.parameters)
    groups = parameters.pop("groups")
    tokenizer = load_tokenizer(job.inputs["candidate"])
    attach_chat_template(tokenizer)
    model = load_model(job.inputs["candidate"]).eval()
    subject = Subject(job, EvaluateParameters(**parameters), model, tokenizer)
    metrics: Metrics = {}
    with torch.no_grad(), autocast(job.precision):
        for group in groups:
            metrics |= MEASURES[group](subject)
    (job.output / "metrics.json").write_text(json.dumps(_readable(metrics), indent=2) + "\n")
    return JobResult(effective={"precision": job.precision})


def _readable(metrics: Metrics) -> dict[str, float | str]:
    """Six digits are plenty; NaN and infinity, which JSON has no form for, become words."""
    return {
        name: float(f"{value:.6g}") if np.isfinite(value) else str(value)
        for name, value in metrics.items()
    }


def measure_language(subject: Subject) -> Metrics:
    """Perplexity (e to the mean nats per token) and next-token accuracy on held-out documents."""
    path = _one(subject.job.inputs["heldout"], "heldout_*.npy")
    packed = open_packed(path, subject.tokenizer)
    rows = np.arange(min(len(packed), subject.parameters.max_rows))

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        size = subject.parameters.per_device_eval_batch_size
        for start in range(0, len(rows), size):
            batch = packed.rows(rows[start : start + size])
            yield {
                "input_ids": torch.from_numpy(batch.input_ids),
                "position_ids": torch.from_numpy(batch.position_ids),
                "labels": torch.from_numpy(batch.labels),
            }

    loss, correct, tokens = _score(subject.model, batches())
    return {"perplexity": float(np.exp(loss / tokens)), "next_token_accuracy": correct / tokens}


def measure_chat(subject: Subject) -> Metrics:
    """Share of the assistant's tokens that the model puts first, on held-out conversations."""
    rows = _rows(subject, "heldout.jsonl")
    samples = [
        render_row(subject.tokenizer, row, f"heldout.jsonl, row {number}")
        for number, row in enumerate(rows, start=1)
    ]
    _, correct, tokens = _score(subject.model, _conversation_batches(subject, samples))
    return {"assistant_token_accuracy": correct / tokens}


def measure_agent(subject: Subject) -> Metrics:
    """What the candidate does with held-out bug tasks; transcripts go to ``attempts.jsonl``.

    ``fixed_rate`` is the share that the full grader accepts, with the bounds of its 95% interval;
    attempts that the machine spoiled are not counted.
    """
    parameters, job = subject.parameters.agent, subject.job
    if parameters is None:
        raise ConfigError(f"{job.step}: to measure an agent, set {job.step}.agent")
    tasks = stored_tasks(job, "heldout")[: parameters.max_tasks]
    attempts = attempt_tasks(job, job.inputs["candidate"], tasks, parameters)
    write_attempts(job.output / ATTEMPTS, attempts)
    known = [attempt for attempt in attempts if attempt.verdict.fixed is not None]
    if not known:
        raise DataError(f"{job.step}: the machine spoiled all {len(attempts)} attempts")
    fixed = fixed_rate(attempts)
    calls = wilson_rate(sum(a.valid_calls for a in known), sum(a.calls for a in known))
    return {
        "fixed_rate": fixed.value,
        "fixed_rate_low": fixed.low,
        "fixed_rate_high": fixed.high,
        "valid_call_rate": calls.value,
        "tokens_per_attempt": sum(a.tokens for a in known) / len(known),
    }


def measure_requests(subject: Subject) -> Metrics:
    """Refusal rate on unsafe requests, and over-refusal on look-alike safe ones.

    A safe request counts as over-refused unless it gets an answer: a model that says nothing, or
    nonsense, would otherwise pass.
    """
    requests = [row for _, row in read_rows(_data(subject, "requests_heldout.jsonl"))]
    limit = subject.parameters.max_requests
    unsafe = [r for r in requests if r["unsafe"]][:limit]
    safe = [r for r in requests if not r["unsafe"]][:limit]
    if not (unsafe and safe):
        raise DataError(
            f"{subject.job.step}: requests_heldout.jsonl holds {len(unsafe)} unsafe and "
            f"{len(safe)} safe requests; a rate needs both kinds"
        )
    answers = greedy_answers(
        subject.model,
        subject.tokenizer,
        [[{"role": "user", "content": r["prompt"]}] for r in unsafe + safe],
        subject.parameters.max_new_tokens,
        subject.parameters.per_device_eval_batch_size * 4,
    )
    refused = sum(is_refusal(answer) for answer in answers[: len(unsafe)])
    answered = sum(is_answer(answer) for answer in answers[len(unsafe) :])
    # Rates without transcripts cannot be checked.
    write_rows(subject.job.output / "answers.jsonl", [
        {**request, "answer": answer}
        for request, answer in zip(unsafe + safe, answers, strict=True)
    ])  # fmt: skip
    return {
        "refusal_rate": refused / len(unsafe),
        "over_refusal_rate": 1 - answered / len(safe),
    }


def measure_preference(subject: Subject) -> Metrics:
    """How often the chosen answer of a held-out pair is preferred.

    ``preference_accuracy`` is by DPO's implicit reward, the log-probability gained over the
    parent's; ``ranking_accuracy`` by the candidate's own log-probability per token;
    ``reward_margin`` is the mean gain of chosen over rejected, in nats.
    """
    pairs = _rows(subject, "heldout.jsonl")
    margins = {}
    for name, model in (("candidate", subject.model), ("parent", subject.parent)):
        chosen, rejected = (
            _answer_log_probs(subject, model, pairs, key) for key in ("chosen", "rejected")
        )
        margins[name] = chosen[:, 0] - rejected[:, 0]
        if name == "candidate":
            ranked = chosen[:, 0] / chosen[:, 1] > rejected[:, 0] / rejected[:, 1]
    gained = margins["candidate"] - margins["parent"]
    return {
        "preference_accuracy": float((gained > 0).mean()),
        "ranking_accuracy": float(ranked.mean()),
        "reward_margin": float(gained.mean()),
    }


def measure_task(subject: Subject) -> Metrics:
    """Share of held-out task prompts whose greedy answer is the label, exactly."""
    rows = _rows(subject, "heldout.jsonl")
    answers = greedy_answers(
        subject.model,
        subject.tokenizer,
        [row["messages"][:-1] for row in rows],
        subject.parameters.max_new_tokens,
        subject.parameters.per_device_eval_batch_size * 2,
    )
    right = [a.strip() == row["messages"][-1]["content"].strip()
             for a, row in zip(answers, rows, strict=True)]  # fmt: skip
    return {"task_accuracy": sum(right) / len(right)}


def measure_merge(subject: Subject) -> Metrics:
    """Largest logit difference between the merged candidate and its adapter on the parent."""
    path = _data(subject, "heldout.jsonl")
    samples = list(islice(render_samples(subject.tokenizer, path, None, subject.job.step), 8))
    if not samples:
        raise DataError(f"{subject.job.step}: {path} is empty, so nothing can be measured on it")
    length = min(_MERGE_TOKENS, *(len(sample) for sample in samples))
    input_ids = torch.from_numpy(np.stack([s.input_ids[:length] for s in samples])).to(device())
    adapter = subject.job.inputs["candidate"] / ADAPTER_FOLDER
    parent = load_model(subject.job.inputs["parent"]).eval()
    difference = merge_logit_difference(parent, adapter, subject.model, input_ids)
    return {"merge_logit_difference": difference}


MEASURES: dict[str, Callable[[Subject], Metrics]] = {
    "language": measure_language,
    "chat": measure_chat,
    "requests": measure_requests,
    "preference": measure_preference,
    "task": measure_task,
    "merge": measure_merge,
    "agent": measure_agent,
}


def _score(
    model: PreTrainedModel, batches: Iterator[dict[str, torch.Tensor]]
) -> tuple[float, int, int]:
    """Return summed nats, correct first choices, and labelled tokens."""
    loss, correct, tokens = 0.0, 0, 0
    for batch in batches:
        logits, labels = labelled_logits(model, {k: v.to(device()) for k, v in batch.items()})
        loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(-1) == labels).sum())
        tokens += len(labels)
    if not tokens:
        raise DataError("the held-out set has no token to predict; give the corpus more documents")
    return loss, correct, tokens


def _conversation_batches(
    subject: Subject, samples: list[Rendered]
) -> Iterator[dict[str, torch.Tensor]]:
    longest = subject.model.config.max_position_embeddings
    fitting = sorted((s for s in samples if len(s) <= longest), key=len)
    size = subject.parameters.per_device_eval_batch_size
    for start in range(0, len(fitting), size):
        part = fitting[start : start + size]
        collate = PackedRows(max(len(s) for s in part), subject.tokenizer.pad_token_id)
        yield collate(
            [
                {
                    "input_ids": s.input_ids,
                    "labels": np.where(s.assistant_mask, s.input_ids, IGNORED),
                    "seq_lengths": [len(s)],
                }
                for s in part
            ]
        )


def _answer_log_probs(
    subject: Subject, model: PreTrainedModel, pairs: list[dict[str, Any]], key: str
) -> np.ndarray:
    """Return (pairs, 2): summed log-probability of each answer (nats), and its tokens."""
    results = np.zeros((len(pairs), 2))
    samples = [
        render(subject.tokenizer, pair["prompt"] + pair[key], f"heldout.jsonl, row {number}")
        for number, pair in enumerate(pairs, start=1)
    ]
    order = sorted(range(len(samples)), key=lambda index: len(samples[index]))
    size = subject.parameters.per_device_eval_batch_size
    for start in range(0, len(order), size):
        part = order[start : start + size]
        collate = PackedRows(max(len(samples[i]) for i in part), subject.tokenizer.pad_token_id)
        batch = collate(
            [
                {
                    "input_ids": samples[i].input_ids,
                    "labels": np.where(samples[i].assistant_mask, samples[i].input_ids, IGNORED),
                    "seq_lengths": [len(samples[i])],
                }
                for i in part
            ]
        )
        logits, labels = labelled_logits(model, {k: v.to(device()) for k, v in batch.items()})
        chosen = torch.log_softmax(logits, -1).gather(1, labels[:, None])[:, 0]
        counts = (batch["labels"][:, 1:] != IGNORED).sum(1)
        sums = [float(piece.sum()) for piece in torch.split(chosen, counts.tolist())]
        results[part] = np.stack([sums, counts.numpy()], axis=1)
    return results


def _rows(subject: Subject, name: str) -> list[dict[str, Any]]:
    path = _data(subject, name)
    rows = [row for _, row in islice(read_rows(path), subject.parameters.max_samples)]
    if not rows:
        raise DataError(f"{subject.job.step}: {path} is empty, so nothing can be measured on it")
    return rows


def _data(subject: Subject, name: str) -> Path:
    path = subject.job.inputs["data"] / name
    if not path.exists():
        raise DataError(f"{subject.job.step}: {path} is missing; run the stage's prepare node")
    return path


def _one(folder: Path, pattern: str) -> Path:
    found = [path for path in folder.glob(pattern) if not path.name.endswith(".segments.npy")]
    if len(found) != 1:
        raise DataError(f"{folder} holds {len(found)} files like {pattern}, one is needed")
    return found[0]
