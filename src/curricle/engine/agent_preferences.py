"""IPO on an agent's conversations: one that succeeded against one that failed.

The same trainer and the same job shape as DPO on answers. What is new is the row: its answers are
several turns with a tool's observations in between, and only what the model said is compared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerFast as Tokenizer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from curricle.config.agent_training import AgentPreferenceParameters
from curricle.engine.adapters import adapter_arguments, save_trained
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.post_training import pair_trainer, write_curve
from curricle.engine.rendering import Messages, Rendered, attach_chat_template, render
from curricle.engine.trainers import MaskedPairs, PairDPOTrainer, train
from curricle.errors import DataError
from curricle.launch.job import Job, JobResult
from curricle.pipelines.sft.rows import read_rows

logger = logging.getLogger(__name__)

Render = Callable[[Messages, str], Rendered]
"""Tokens of a conversation and the mask of what the model said, given where it comes from."""


def agent_ipo_job(job: Job) -> JobResult:
    """Train on pairs of conversations; the reference is the checkpoint that it starts from."""
    parameters = AgentPreferenceParameters(**job.parameters)
    tokenizer = load_tokenizer(job.inputs["start"])
    attach_chat_template(tokenizer)
    path = job.inputs["data"] / "train.jsonl"
    pairs, effective = agent_pairs(
        lambda messages, where: render(tokenizer, messages, where), path, parameters.max_length
    )
    trainer, curve, measured = train(
        job, parameters, lambda size: agent_pair_trainer(job, parameters, tokenizer, pairs, size)
    )
    trained = save_trained(trainer, tokenizer, job)
    write_curve(job.output, curve)
    return JobResult(effective={**effective, **trained}, measured=measured)


def agent_pair_trainer(
    job: Job,
    parameters: AgentPreferenceParameters,
    tokenizer: Tokenizer,
    pairs: Dataset,
    micro_batch: int,
) -> PairDPOTrainer:
    """Return the trainer of pairs that are tokens already."""
    model = load_model(job.inputs["start"])
    collate = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)
    return pair_trainer(
        job, parameters, model, tokenizer, pairs,
        micro_batch=micro_batch,
        data_collator=MaskedPairs(collate),
        **adapter_arguments(model, parameters.adapter, job.step),
    )  # fmt: skip


def agent_pairs(
    render_messages: Render, path: Path, max_length: int
) -> tuple[Dataset, dict[str, Any]]:
    """Render pairs of conversations that share their first messages.

    Args:
        render_messages: the model's own rendering.
        path: JSONL of ``prompt``, ``chosen`` and ``rejected``, each a list of messages.
        max_length: tokens of a conversation; a pair with a longer one is dropped and counted.

    Returns:
        Rows with ``prompt_ids``, ``chosen_ids``, ``chosen_mask`` and so on, ``length`` (of the
        longer one), and what to record.

    Raises:
        DataError: a pair prefers a conversation over itself, no token of it is the model's, or
            none is short enough.
    """
    kept: list[dict[str, Any]] = []
    dropped = 0
    for number, row in read_rows(path):
        where = f"{path.name}, row {number}"
        if row["chosen"] == row["rejected"]:
            raise DataError(
                f"{where}: chosen and rejected are identical, so there is nothing to prefer. "
                f"Remove the row."
            )
        sides = {
            side: render_messages([*row["prompt"], *row[side]], where)
            for side in ("chosen", "rejected")
        }
        length = max(len(side) for side in sides.values())
        if length > max_length:
            dropped += 1
            continue
        kept.append({**_tokenised(sides, _shared_turns(row["prompt"]), where), "length": length})
    if not kept:
        raise DataError(
            f"{path}: none of {dropped} pairs has at most max_length={max_length} tokens. "
            f"Raise max_length."
        )
    trained = sum(sum(pair[f"{side}_mask"]) for pair in kept for side in ("chosen", "rejected"))
    read = sum(len(pair[f"{side}_ids"]) for pair in kept for side in ("chosen", "rejected"))
    return Dataset.from_list(kept), {
        "pairs": len(kept),
        "dropped_too_long": dropped,
        "assistant_token_share": round(trained / read, 4),
    }


def _shared_turns(prompt: Sequence[dict[str, Any]]) -> int:
    return sum(message["role"] == "assistant" for message in prompt)


def _tokenised(sides: dict[str, Rendered], shared_turns: int, where: str) -> dict[str, list[int]]:
    """Split both conversations where the model first speaks after the prompt.

    Raises:
        DataError: the two do not share everything before that, or the model says nothing after it.
    """
    starts = {}
    for side, rendered in sides.items():
        mask = rendered.assistant_mask.astype(np.int8)
        turns = np.flatnonzero(np.diff(mask, prepend=0) == 1)
        if len(turns) <= shared_turns:
            raise DataError(f"{where}: {side} ends before the assistant says anything.")
        starts[side] = int(turns[shared_turns])
    chosen, rejected = sides["chosen"], sides["rejected"]
    start = starts["chosen"]
    if start != starts["rejected"] or not np.array_equal(
        chosen.input_ids[:start], rejected.input_ids[:start]
    ):
        raise DataError(
            f"{where}: chosen and rejected render the shared messages differently. Use a chat "
            f"template that only ever appends."
        )
    split = {"prompt_ids": chosen.input_ids[:start].tolist()}
    for side, rendered in sides.items():
        split[f"{side}_ids"] = rendered.input_ids[start:].tolist()
        split[f"{side}_mask"] = rendered.assistant_mask[start:].astype(int).tolist()
    return split
