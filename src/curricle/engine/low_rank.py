r"""A linear layer with a low-rank adapter, computed as one.

PEFT computes :math:`Wx`, then :math:`BAx`, scales and adds: two thin products and two passes over
the output more, in both directions. Tokens are many and the rank is small, so here the sum
:math:`W + sBA` is formed first, which costs as much as a handful of tokens, and one product serves
forward, one the gradient of the input. The gradients of :math:`A` and :math:`B` are those of PEFT.
The weights that are trained, saved and merged stay PEFT's own.

Under bf16 autocast the sum is formed in fp32 and rounded once, as the weights of full fine-tuning
in mixed precision are: an update below the rounding is kept in :math:`A` and :math:`B` until it
shows. A loop over SmolLM2-135M went from 585 to 672 tokens a second with it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear

from curricle.engine.products import multiply


class LowRankLinear(torch.autograd.Function):
    """``x (W + s B A)^T + b``; the frozen weight and bias get no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,  # (..., inputs)
        weight: torch.Tensor,  # (outputs, inputs), fp32
        bias: torch.Tensor | None,
        a: torch.Tensor,  # (rank, inputs), fp32
        b: torch.Tensor,  # (outputs, rank), fp32
        scale: float,
        dtype: torch.dtype,  # of the products
    ) -> torch.Tensor:
        """Return (..., outputs) in ``dtype``."""
        with torch.autocast("cpu", enabled=False):
            inputs = x.to(dtype)
            whole = torch.addmm(weight, b, a, alpha=scale).to(dtype)
            # In fp32 the sum is formed again: it would keep a second copy of the model alive.
            ctx.save_for_backward(inputs, a, b, weight if dtype == torch.float32 else whole)
            ctx.scale, ctx.input_dtype = scale, x.dtype
            return multiply(inputs, whole, None if bias is None else bias.to(dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of ``x``, ``a`` and ``b``."""
        x, a, b, weight = ctx.saved_tensors
        dtype = x.dtype
        if dtype == torch.float32:
            weight = torch.addmm(weight, b, a, alpha=ctx.scale)
        flat = gradient.reshape(-1, gradient.shape[-1])  # (tokens, outputs)
        inputs = x.reshape(-1, x.shape[-1])  # (tokens, inputs)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = multiply(flat, weight.t()).view_as(x).to(ctx.input_dtype)
        through_b = multiply(flat, b.t().to(dtype))  # (tokens, rank)
        to_a = multiply(through_b.t().contiguous(), inputs.t()).float()
        to_b = (flat.t() @ multiply(inputs, a.to(dtype))).float()
        return to_x, None, None, to_a.mul_(ctx.scale), to_b.mul_(ctx.scale), None, None


def fuse_adapters(model: torch.nn.Module) -> int:
    """Let the adapters of a PEFT model compute so, where it changes nothing but rounding.

    That is: on a CPU, with weights in fp32, one plain adapter without dropout on a frozen layer.

    Returns:
        How many layers were changed.
    """
    fused = 0
    for module in model.modules():
        if isinstance(module, LoraLinear) and _is_plain(module):
            # An instance's own forward: PEFT's class, names and saved weights stay untouched.
            module.forward = partial(_forward, module, module.forward)
            fused += 1
    return fused


def _forward(
    module: LoraLinear, original: Any, x: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    cast = torch.is_autocast_enabled("cpu")
    if module.disable_adapters or module.merged or (cast and not torch.is_grad_enabled()):
        result: torch.Tensor = original(x, *args, **kwargs)
        return result
    (name,) = module.active_adapters
    base = module.get_base_layer()
    computed: torch.Tensor = LowRankLinear.apply(  # type: ignore[no-untyped-call]
        x, base.weight, base.bias, module.lora_A[name].weight, module.lora_B[name].weight,
        module.scaling[name], torch.get_autocast_dtype("cpu") if cast else x.dtype,
    )  # fmt: skip
    return computed


def _is_plain(module: LoraLinear) -> bool:
    base = module.get_base_layer()
    names = list(module.active_adapters)
    return (
        type(base) is torch.nn.Linear
        and len(names) == 1
        and not base.weight.requires_grad
        and base.weight.device.type == "cpu"
        and base.weight.dtype == torch.float32
        and isinstance(module.lora_dropout[names[0]], torch.nn.Identity)
        and not module.use_dora[names[0]]
        and module.lora_B[names[0]].bias is None
    )
