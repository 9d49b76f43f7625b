"""IPO on an agent's conversations: one that succeeded against one that failed.

The same trainer and the same job shape as DPO on answers. What is new is the row: its answers are
several turns with a tool's observations in between, and only what the model said is compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerFast as Tokenizer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from curricle.config.agent_training import AgentPreferenceParameters
from curricle.engine.adapters import adapter_arguments, save_trained
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.post_training import pair_trainer, write_curve
from curricle.engine.renderers import Renderer, attach_agent_template, renderer_for
from curricle.engine.trainers import MaskedPairs, PairDPOTrainer, train
from curricle.errors import DataError, SpecialTokenText
from curricle.launch.job import Job, JobResult
from curricle.pipelines.sft.rows import read_rows

_SIDES = ("chosen", "rejected")


def agent_ipo_job(job: Job) -> JobResult:
    """Train on pairs of conversations; the reference is the checkpoint that it starts from."""
    parameters = AgentPreferenceParameters(**job.parameters)
    tokenizer = load_tokenizer(job.inputs["start"])
    renderer = renderer_for(tokenizer, parameters.renderer, job.step)
    if parameters.renderer in ("plain", "json"):
        attach_agent_template(tokenizer, parameters.renderer)
    path = job.inputs["data"] / "train.jsonl"
    pairs, effective = agent_pairs(renderer, path, parameters.max_length)
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


def agent_pairs(renderer: Renderer, path: Path, max_length: int) -> tuple[Dataset, dict[str, Any]]:
    """Render pairs of conversations that share their first messages.

    Args:
        renderer: the model's own.
        path: JSONL of ``prompt``, ``chosen`` and ``rejected``, each a list of messages, and the
            ``tools`` on offer; one that spells a special token is dropped and counted.
        max_length: tokens of a conversation; a pair with a longer one is dropped and counted.

    Returns:
        Rows with ``prompt_ids``, ``chosen_ids``, ``chosen_mask`` and so on, ``length`` (of the
        longer one), and what to record.

    Raises:
        DataError: a pair prefers a conversation over itself, no token of it is the model's, or
            none is short enough.
    """
    kept: list[dict[str, Any]] = []
    dropped = unwritable = 0
    for number, row in read_rows(path):
        where = f"{path.name}, row {number}"
        if row["chosen"] == row["rejected"]:
            raise DataError(
                f"{where}: chosen and rejected are identical, so there is nothing to prefer. "
                f"Remove the row."
            )
        try:
            pair = _tokenised(renderer, row, where)
        except SpecialTokenText:  # a model may say anything
            unwritable += 1
            continue
        length = len(pair["prompt_ids"]) + max(len(pair[f"{side}_ids"]) for side in _SIDES)
        if length > max_length:
            dropped += 1
            continue
        kept.append({**pair, "length": length})
    if not kept:
        raise DataError(
            f"{path}: none of {dropped} pairs has at most max_length={max_length} tokens, and "
            f"{unwritable} spell special tokens. Raise max_length."
        )
    trained = sum(sum(pair[f"{side}_mask"]) for pair in kept for side in _SIDES)
    read = sum(len(pair[f"{side}_ids"]) for pair in kept for side in _SIDES)
    shared = sum(len(pair["prompt_ids"]) for pair in kept)
    return Dataset.from_list(kept), {
        "pairs": len(kept),
        "tokens": read + len(_SIDES) * shared,
        "dropped_too_long": dropped,
        "dropped_special_tokens": unwritable,
        "assistant_token_share": round(trained / read, 4),
    }


def _tokenised(renderer: Renderer, row: dict[str, Any], where: str) -> dict[str, Any]:
    """Split both conversations where the model speaks after the shared messages.

    Raises:
        DataError: they do not begin as the shared messages are rendered, or the model says nothing
            after them.
    """
    tools = row.get("tools") or ()
    prompt = renderer.prompt(row["prompt"], tools, where)
    split: dict[str, Any] = {"prompt_ids": prompt}
    for side in _SIDES:
        rendered = renderer.render([*row["prompt"], *row[side]], tools, f"{where}, {side}")
        if rendered.input_ids[: len(prompt)].tolist() != prompt:
            raise DataError(
                f"{where}: {side} renders the shared messages otherwise than they are rendered "
                f"alone. Use a renderer that only ever appends."
            )
        mask = rendered.assistant_mask[len(prompt) :]
        if not mask.any():
            raise DataError(f"{where}: in {side} the assistant says nothing. Remove the row.")
        split[f"{side}_ids"] = rendered.input_ids[len(prompt) :].tolist()
        split[f"{side}_mask"] = mask.astype(int).tolist()
    return split
