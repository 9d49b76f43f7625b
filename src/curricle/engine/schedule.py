"""Learning rates, and the optimizer that they drive."""

from __future__ import annotations

import math

import torch


def learning_rate_share(
    step: int, steps: int, kind: str, warmup_share: float, min_lr_share: float
) -> float:
    """Return the learning rate of a step as a share of its peak.

    Args:
        step: zero-based.
        steps: how many there are in all.
        kind: ``cosine``, ``linear`` or ``constant``, after a linear warm-up.
        warmup_share: share of ``steps`` that warm up.
        min_lr_share: the share that the decay ends at.
    """
    warmup = max(1, round(steps * warmup_share)) if warmup_share else 0
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    if kind == "constant":
        return 1.0
    decay = 0.5 * (1 + math.cos(math.pi * progress)) if kind == "cosine" else 1 - progress
    return min_lr_share + (1 - min_lr_share) * decay


def build_optimizer(
    model: torch.nn.Module,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters; only matrices are decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
