r"""Llama's blocks with few passes over memory, for training adapters on a CPU.

Where a processor multiplies matrices in bf16 quickly, two thirds of a training step of a small
model go into what lies between the products: conversions, rotations, norms. Here, with adapters
that ``low_rank`` fused,

* a norm gives what the products read: its result is converted once, not once per product;
* query, key and value are one product, so are gate and up: the gradients of what they read are
  summed within it;
* heads are laid out and rotated in one go, and ``silu(gate) * up`` has a backward pass of its own.

The function is the library's; what differs is where bf16 is rounded on the way back.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn.functional import silu
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    LlamaRMSNorm,
    eager_attention_forward,
)

from curricle.engine.low_rank import project


class RootMeanSquareNorm(torch.autograd.Function):
    r""":math:`w x / \sqrt{\overline{x^2} + \epsilon}` with a frozen weight."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
    ) -> torch.Tensor:
        """Map (..., width) in fp32 to the same in ``dtype``."""
        mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        inverse = mean.add_(epsilon).rsqrt_()  # (..., 1)
        ctx.save_for_backward(x, weight, inverse)
        normed: torch.Tensor = (x * inverse).mul_(weight)
        return normed.to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradient of ``x``."""
        x, weight, inverse = ctx.saved_tensors
        weighted = gradient.float() * weight
        along = torch.linalg.vecdot(weighted, x).unsqueeze(-1)
        along.mul_(inverse.square()).div_(-x.shape[-1])
        return weighted.addcmul_(x, along).mul_(inverse), None, None, None


class RotatedHeads(torch.autograd.Function):
    """Query, key and value by head, the first two rotated by their positions."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: torch.Tensor,  # (rows, length, all heads * width)
        cos: torch.Tensor,  # (rows, length, width), fp32
        sin: torch.Tensor,
        heads: tuple[int, int],  # of queries, of keys and values
    ) -> tuple[torch.Tensor, ...]:
        """Return three tensors (rows, heads, length, width) in the type of ``projected``."""
        ctx.save_for_backward(cos, sin)
        ctx.heads = heads
        queries, keys = heads
        by_head = projected.view(*projected.shape[:2], -1, cos.shape[-1]).transpose(1, 2)
        turned = _rotate(by_head[:, : queries + keys].float(), cos, sin).to(projected.dtype)
        value = by_head[:, queries + keys :].contiguous()
        return turned[:, :queries], turned[:, queries:], value

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradient of ``projected``."""
        cos, sin = ctx.saved_tensors
        queries, keys = ctx.heads
        to_query, to_key, to_value = gradients
        rows, _, length, width = to_value.shape
        heads = queries + 2 * keys
        result = to_value.new_empty(rows, length, heads, width)
        by_head = result.transpose(1, 2)
        rotated = torch.cat([to_query, to_key], dim=1).float()
        by_head[:, : queries + keys] = _rotate(rotated, cos, -sin)
        by_head[:, queries + keys :] = to_value
        return result.flatten(2), None, None, None


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate (rows, heads, length, width) in fp32, halves of the width against each other."""
    cos, sin = cos[:, None], sin[:, None]
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return turned


class GatedUnit(torch.autograd.Function):
    """``silu(gate) * up`` of the two side by side."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        """Map (..., 2 * width) to (..., width)."""
        gate, up = gate_up.chunk(2, dim=-1)
        opened = silu(gate)
        ctx.save_for_backward(gate_up, opened)
        return opened * up

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of ``gate_up``."""
        gate_up, opened = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        result = torch.empty_like(gate_up)
        to_gate, to_up = result.chunk(2, dim=-1)
        torch.mul(gradient, opened, out=to_up)
        torch.ops.aten.silu_backward(gradient * up, gate, grad_input=to_gate)
        return result


def use_llama_blocks(model: torch.nn.Module) -> int:
    """Let the blocks of a Llama with fused adapters compute so.

    Returns:
        How many attentions, gated units and norms were changed.
    """
    changed = 0
    for module in model.modules():
        ours = _FORWARDS.get(type(module))
        frozen = not any(p.requires_grad for p in module.parameters(recurse=False))
        if ours is None or not frozen or not _on_cpu(module):
            continue
        # An instance's own forward: class, names and saved weights stay untouched.
        module.forward = partial(ours, module, module.forward)
        changed += 1
    return changed


def _on_cpu(module: torch.nn.Module) -> bool:
    return all(p.device.type == "cpu" for p in module.parameters())


def _norm(module: LlamaRMSNorm, original: Any, x: torch.Tensor) -> torch.Tensor:
    if x.dtype != torch.float32 or not torch.is_grad_enabled():
        result: torch.Tensor = original(x)
        return result
    cast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if cast else x.dtype
    normed: torch.Tensor = RootMeanSquareNorm.apply(
        x, module.weight, module.variance_epsilon, dtype
    )
    return normed


def _attention(
    module: LlamaAttention,
    original: Any,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    **kwargs: Any,
) -> Any:
    projections = (module.q_proj, module.k_proj, module.v_proj)
    # An empty cache is false, and is to be filled all the same.
    projected = project(hidden_states, projections) if past_key_values is None else None
    if projected is None:
        return original(
            hidden_states=hidden_states, position_embeddings=position_embeddings,
            attention_mask=attention_mask, past_key_values=past_key_values, **kwargs,
        )  # fmt: skip
    keys = module.config.num_key_value_heads
    heads = (keys * module.num_key_value_groups, keys)
    by_head = RotatedHeads.apply(projected, *position_embeddings, heads)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(
        module.config._attn_implementation, eager_attention_forward
    )
    attended, weights = attend(
        module, *by_head, attention_mask,
        dropout=module.attention_dropout if module.training else 0.0,
        scaling=module.scaling, **kwargs,
    )  # fmt: skip
    return module.o_proj(attended.flatten(2)), weights


def _gated(module: LlamaMLP, original: Any, x: torch.Tensor) -> torch.Tensor:
    is_silu = module.config.hidden_act == "silu"
    gate_up = project(x, (module.gate_proj, module.up_proj)) if is_silu else None
    result: torch.Tensor = (
        original(x) if gate_up is None else module.down_proj(GatedUnit.apply(gate_up))
    )
    return result


_FORWARDS: dict[type, Any] = {
    LlamaRMSNorm: _norm, LlamaAttention: _attention, LlamaMLP: _gated
}  # fmt: skip
