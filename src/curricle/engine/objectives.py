"""The language-model loss, once, for pretraining, SFT and evaluation alike."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from curricle.engine.document_attention import DOCUMENTS, document_blocks
from curricle.pipelines.corpus.packed import IGNORED


def labelled_logits(
    model: PreTrainedModel, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits only where there is a label, and the labels.

    The head over the vocabulary is a fifth and more of a small model's work; positions without a
    label never reach it. ``position_ids`` that restart mark documents: attention stays inside
    them, as long as no cache is used, which is why it is switched off here.

    Args:
        model: a causal language model.
        batch: ``input_ids``, ``labels`` (``IGNORED`` for none) and optionally ``position_ids`` or
            ``attention_mask``, each (batch, seq).

    Returns:
        Logits (labelled, vocabulary) in fp32, and the labels (labelled,).
    """
    inputs: dict[str, Any] = {k: v for k, v in batch.items() if k != "labels"}
    if model.config._attn_implementation == DOCUMENTS and "position_ids" in batch:
        inputs["blocks"] = document_blocks(batch["position_ids"])
    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1]
    labels = batch["labels"][:, 1:]
    mask = labels != IGNORED
    head = model.get_output_embeddings()
    return head(hidden[mask]).float(), labels[mask]


def summed_loss(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the summed negative log-likelihood (nats) of a batch's labelled tokens."""
    logits, labels = labelled_logits(model, batch)
    return functional.cross_entropy(logits, labels, reduction="sum")
