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

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear

from curricle.engine.products import multiply


class LowRankLinear(torch.autograd.Function):
    """``x (W + s B A)^T + b`` of one layer, or of several that read the same, side by side.

    The frozen weights and biases get no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,  # (..., inputs)
        dtype: torch.dtype,  # of the products
        scales: tuple[float, ...],  # of each layer
        *tensors: torch.Tensor | None,  # of each layer: weight, bias, a and b
    ) -> torch.Tensor:
        """Return (..., outputs of all layers) in ``dtype``."""
        with torch.autocast("cpu", enabled=False):
            inputs = x.to(dtype)
            whole = _sums(tensors, scales).to(dtype)
            # In fp32 the sums are formed again: they would keep a second copy of the model alive.
            ctx.save_for_backward(inputs, None if dtype == torch.float32 else whole, *tensors)
            ctx.scales, ctx.input_dtype = scales, x.dtype
            return multiply(inputs, whole, _biases(tensors, dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of ``x`` and of each layer's ``a`` and ``b``."""
        x, whole, *tensors = ctx.saved_tensors
        dtype = x.dtype
        flat = gradient.reshape(-1, gradient.shape[-1])  # (tokens, outputs)
        inputs = x.reshape(-1, x.shape[-1])  # (tokens, inputs)
        to_x = None
        if ctx.needs_input_grad[0]:
            whole = _sums(tensors, ctx.scales) if whole is None else whole
            to_x = multiply(flat, whole.t()).view_as(x).to(ctx.input_dtype)
        layers = [tensors[first : first + 4] for first in range(0, len(tensors), 4)]
        parts = flat.split_with_sizes([b.shape[0] for _, _, _, b in layers], 1)
        down = torch.cat([a for _, _, a, _ in layers]).to(dtype)  # (ranks, inputs)
        through_a = multiply(inputs, down)  # (tokens, ranks)
        through_b = torch.cat(
            [multiply(part, b.t().to(dtype)).t()
             for part, (_, _, _, b) in zip(parts, layers, strict=True)]
        )  # fmt: skip
        ranks = [b.shape[1] for _, _, _, b in layers]
        to_a = multiply(through_b, inputs.t()).float().split_with_sizes(ranks)
        gradients: list[torch.Tensor | None] = [to_x, None, None]
        of_layers = zip(parts, through_a.split_with_sizes(ranks, 1), to_a, ctx.scales, strict=True)
        for part, low, rows, scale in of_layers:
            gradients += [None, None, rows * scale, (part.t() @ low).float().mul_(scale)]
        return tuple(gradients)


def _sums(tensors: Sequence[Any], scales: tuple[float, ...]) -> torch.Tensor:
    """Return ``W + s B A`` of all layers, (outputs, inputs) in fp32."""
    weights, lower, upper = tensors[0::4], tensors[2::4], tensors[3::4]
    whole = torch.empty(sum(len(w) for w in weights), weights[0].shape[1])
    parts = whole.split_with_sizes([len(w) for w in weights])
    for part, w, a, b, scale in zip(parts, weights, lower, upper, scales, strict=True):
        torch.addmm(w, b, a, alpha=scale, out=part)
    return whole


def _biases(tensors: Sequence[Any], dtype: torch.dtype) -> torch.Tensor | None:
    """Return the biases of all layers, (outputs,); zero where a layer has none."""
    weights, biases = tensors[0::4], tensors[1::4]
    if all(bias is None for bias in biases):
        return None
    return torch.cat(
        [w.new_zeros(len(w)) if bias is None else bias
         for w, bias in zip(weights, biases, strict=True)]
    ).to(dtype)  # fmt: skip


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


def project(x: torch.Tensor, layers: Sequence[Any]) -> torch.Tensor | None:
    """Return what layers with fused adapters make of the same input, side by side.

    Args:
        x: (..., inputs).
        layers: each (inputs) to (its outputs).

    Returns:
        (..., outputs of all layers), or ``None`` where a layer has to go PEFT's way.
    """
    cast = torch.is_autocast_enabled("cpu")
    if (cast and not torch.is_grad_enabled()) or not all(_is_active(layer) for layer in layers):
        return None
    tensors: list[torch.Tensor | None] = []
    scales = []
    for layer in layers:
        (name,) = layer.active_adapters
        base = layer.get_base_layer()
        tensors += [
            base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight
        ]  # fmt: skip
        scales.append(layer.scaling[name])
    dtype = torch.get_autocast_dtype("cpu") if cast else x.dtype
    computed: torch.Tensor = LowRankLinear.apply(x, dtype, tuple(scales), *tensors)
    return computed


def _forward(
    module: LoraLinear, original: Any, x: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    computed = project(x, [module])
    if computed is None:
        computed = original(x, *args, **kwargs)
    return computed


def _is_active(module: Any) -> bool:
    """Say whether a layer has a fused adapter that is neither disabled nor merged."""
    forward = module.forward
    fused = isinstance(forward, partial) and forward.func is _forward
    return fused and not module.disable_adapters and not module.merged


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
