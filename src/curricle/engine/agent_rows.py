"""Training rows of conversations: trajectories, chats and plain texts become samples, counted.

A row with ``tools`` is a trajectory and is written by a renderer; the others are rendered as in
every stage. What is left out is counted with its reason: a trajectory that is longer than the
context is never cut, because what is left of it would teach to stop before the end.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.agents.messages import read_messages
from curricle.config.training import SftParameters
from curricle.engine.renderers import Renderer, attach_agent_template, renderer_for
from curricle.engine.rendering import Rendered, attach_chat_template, render_row
from curricle.errors import DataError
from curricle.pipelines.sft.rows import read_rows

logger = logging.getLogger(__name__)


def attach_template(tokenizer: Tokenizer, parameters: SftParameters) -> None:
    """Give a tokenizer the chat template that a stage names; it is saved with the checkpoint.

    Without a name a tokenizer keeps its own, and one that has none gets the plain one.
    """
    if parameters.renderer in ("plain", "json"):
        attach_agent_template(tokenizer, parameters.renderer)
    else:
        attach_chat_template(tokenizer)


def take_samples(
    tokenizer: Tokenizer, path: Path, parameters: SftParameters, step: str
) -> tuple[list[Rendered], dict[str, Any]]:
    """Render a file and take what fits into the context and the token budget.

    Returns:
        The samples, and what to record: how many, how long, what was left out and why.

    Raises:
        DataError: a row cannot be rendered, or none is short enough.
    """
    kept: list[Rendered] = []
    too_long = over_budget = tokens = 0
    for sample in render_samples(tokenizer, path, parameters.renderer, step):
        if len(sample) > parameters.max_length:
            too_long += 1
        elif parameters.max_train_tokens and tokens + len(sample) > parameters.max_train_tokens:
            over_budget += 1
        else:
            kept.append(sample)
            tokens += len(sample)
    if not kept:
        raise DataError(
            f"{step}: none of {too_long + over_budget} conversations has at most max_length="
            f"{parameters.max_length} tokens and fits into the budget. Raise {step}.max_length"
            f"{' or max_train_tokens' if parameters.max_train_tokens else ''}."
        )
    if too_long or over_budget:
        logger.info("%s: %d samples; left out: %d longer than %d tokens, %d beyond the budget",
                    step, len(kept), too_long, parameters.max_length, over_budget)  # fmt: skip
    counts = {
        "samples": len(kept),
        "tokens": tokens,
        "dropped_too_long": too_long,
        "dropped_over_budget": over_budget,
    }
    return kept, {**counts, **length_statistics(kept)}


def length_statistics(samples: list[Rendered]) -> dict[str, int]:
    """Return the shortest, the middle and the longest sample, and the deciles, in tokens."""
    lengths = np.array([len(sample) for sample in samples])
    shares = {"min": 0, "p10": 10, "p50": 50, "p90": 90, "max": 100}
    return {f"tokens_{name}": int(np.percentile(lengths, q)) for name, q in shares.items()}


def render_samples(
    tokenizer: Tokenizer, path: Path, name: str | None, step: str
) -> Iterator[Rendered]:
    """Yield the training samples of a JSONL file, in its order.

    Args:
        tokenizer: the checkpoint's.
        path: rows with ``messages`` and ``tools``, with ``messages``, or with ``text``.
        name: the renderer that the parameters name.
        step: the stage's, for messages.
    """
    renderer: Renderer | None = None
    for number, row in read_rows(path):
        where = f"{path.name}, row {number}"
        if "tools" in row or (name and row.get("messages") is not None):
            renderer = renderer or renderer_for(tokenizer, name, step)
            yield from trajectory_samples(renderer, row, where)
        else:
            yield render_row(tokenizer, row, where)


def trajectory_samples(renderer: Renderer, row: dict[str, Any], where: str) -> list[Rendered]:
    """Render a trajectory, a row of ``messages`` and ``tools``.

    Raises:
        DataError: it is no conversation, or nothing or everything of it would be trained.
    """
    messages = read_messages(row["messages"], where)
    samples = renderer.samples(messages, row.get("tools") or (), where)
    if any(sample.assistant_mask.all() for sample in samples):
        raise DataError(f"{where}: every token would be trained, the question too.")
    return samples
