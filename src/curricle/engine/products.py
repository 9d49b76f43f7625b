r"""Matrix products of training in fp32 on a CPU, by the library that is fast on every maker's.

PyTorch hands fp32 products to MKL, which keeps to AVX2 on processors that are not Intel's. oneDNN,
which computes PyTorch's bf16 products anyway, writes its kernels for whatever the processor has:
506 against 206 GFLOP/s forward and 544 against 230 backward, for 1024 tokens through a layer of 576
to 1536 on two cores with AVX-512; held to AVX2 it is still no slower (258 and 273). Both are fp32
throughout; the sums are taken in another order.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

_ONEDNN: bool = torch.backends.mkldnn.is_available()


def multiply(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return :math:`x W^T + b`, without a gradient.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs); a transposed view will do, and what ``pack`` made of it.
        bias: (outputs,).
    """
    if x.dtype == torch.float32 and x.device.type == "cpu" and _ONEDNN:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return linear(x, weight, bias)


def pack(weight: torch.Tensor, rows: int) -> torch.Tensor:
    """Return a fixed weight as ``multiply`` reads it fastest: in oneDNN's own blocks.

    Args:
        weight: (outputs, inputs).
        rows: of the inputs that it is mostly multiplied with.

    Returns:
        An opaque tensor of the same values; the weight itself where oneDNN does not compute.
    """
    if weight.dtype == torch.float32 and weight.device.type == "cpu" and _ONEDNN:
        packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        return packed
    return weight


class DenseProduct(torch.autograd.Function):
    """:math:`x W^T + b` with the gradients of whatever is trained."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Map (..., inputs) to (..., outputs)."""
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of ``x``, the weight and the bias."""
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        flat = gradient.reshape(-1, gradient.shape[-1])  # (tokens, outputs)
        return (
            multiply(flat, weight.t()).view_as(x) if to_x else None,
            # Sums over tokens: oneDNN gains little there, and loses on small layers.
            flat.t() @ x.reshape(-1, x.shape[-1]) if to_weight else None,
            flat.sum(0) if to_bias else None,
        )


def use_dense_products(model: torch.nn.Module) -> int:
    """Let the linear layers of a model on a CPU compute so, those below an adapter too.

    Returns:
        How many layers were changed.
    """
    changed = 0
    for module in model.modules():
        if type(module) is torch.nn.Linear and module.weight.device.type == "cpu":
            # An instance's own forward: class, names and saved weights stay untouched.
            module.forward = partial(_forward, module, module.forward)  # type: ignore[method-assign]
            changed += 1
    return changed


def _forward(module: torch.nn.Linear, original: Any, x: torch.Tensor) -> torch.Tensor:
    dtypes = {x.dtype, module.weight.dtype}
    if torch.is_autocast_enabled("cpu") or dtypes != {torch.float32} or not x.numel():
        result: torch.Tensor = original(x)
        return result
    computed: torch.Tensor = DenseProduct.apply(x, module.weight, module.bias)
    return computed
