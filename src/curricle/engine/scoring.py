"""Log-probabilities of given tokens, for the trainers that compare them: IPO and GRPO."""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from curricle.engine.document_attention import DOCUMENTS, document_blocks
from curricle.pipelines.corpus.packed import IGNORED


def score_labels_only(model: PreTrainedModel, temperature: float = 1.0) -> None:
    """Let a model that carries TRL's fused head project only positions with a label, on a CPU too.

    TRL does so on GPUs, and scores every position elsewhere: for an agent's conversation, of which
    it speaks a tenth, that is most of the head's work for nothing. What comes out is the same; a
    test holds both trainers that use it to TRL's losses. After ``use_document_attention`` rows are
    packed besides, so that no padding is read.

    Args:
        model: below any adapter, after TRL's trainer has patched it.
        temperature: what logits are divided by; the trainer's.
    """
    fused_forward = model.forward

    @functools.wraps(fused_forward)
    def forward(
        *args: Any, fused_lm_head: bool = False, labels: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        if not fused_lm_head or labels is None or labels.device.type != "cpu":
            return fused_forward(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        return _score(model, labels, temperature, *args, **{**kwargs, "use_cache": False})

    model.forward = forward


def _score(
    model: PreTrainedModel, labels: torch.Tensor, temperature: float, *args: Any, **kwargs: Any
) -> FusedCausalLMOutput:
    """Return what TRL's fused head returns: per token (batch, seq - 1), zero without a label."""
    targets = labels[:, 1:]
    mask = targets != IGNORED
    hidden = _hidden_before(model, mask, *args, **kwargs)
    logits = model.get_output_embeddings()(hidden).float() / temperature
    log_normaliser = logits.logsumexp(-1)
    chosen = targets[mask]
    log_probs = logits.gather(-1, chosen[:, None])[:, 0] - log_normaliser

    def spread(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(mask.shape, dtype=values.dtype).masked_scatter(mask, values)

    with torch.no_grad():
        shares = torch.softmax(logits, -1)
        entropy = log_normaliser - torch.einsum("tv,tv->t", shares, logits)
        mean_logits, is_top1 = logits.mean(-1), logits.argmax(-1) == chosen
    return FusedCausalLMOutput(
        log_probs=spread(log_probs),
        entropy=spread(entropy),
        mean_logits=spread(mean_logits),
        is_top1=spread(is_top1),
        label_mask=mask,
    )


def _hidden_before(
    model: PreTrainedModel,
    mask: torch.Tensor,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    **kwargs: Any,
) -> torch.Tensor:
    """Return the hidden states (targets, width) that the targets are predicted from.

    Where attention goes by documents, rows are packed: no padding passes through the model.

    Args:
        model: a causal language model.
        mask: (rows, length - 1), where the next token is a target.
        input_ids: (rows, length).
        attention_mask: (rows, length), zero for padding.
        kwargs: for the model.
    """
    if model.config._attn_implementation != DOCUMENTS:
        read = model.base_model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        hidden: torch.Tensor = read.last_hidden_state[:, :-1][mask]
        return hidden
    kept = attention_mask.bool()
    positions = (attention_mask.cumsum(1) - 1)[kept][None]
    read = model.base_model(
        input_ids=input_ids[kept][None], position_ids=positions,
        blocks=document_blocks(positions), **kwargs,
    )  # fmt: skip
    places = kept.flatten().cumsum(0).view(kept.shape) - 1  # of each token in the packed row
    packed: torch.Tensor = read.last_hidden_state[0]
    return packed[places[:, :-1][mask]]
