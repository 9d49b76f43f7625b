"""Matrix products of generation, in three arithmetics; two do not depend on the batch at all.

In float32 and int8 every row of the result depends on its own row of the input alone, to the last
bit. So a conversation's answer is the same whatever else is generated beside it:

- ``float32``: by oneDNN, its weights packed. PyTorch's own way is MKL, whose sums change with the
  number of rows and of threads (measured with AVX512: from 16 rows of 576 inputs on), and which
  takes 1.6 times as long for 16 rows. A single row may take another kernel in oneDNN too, so short
  batches are padded.
- ``bfloat16``: weights and inputs rounded to 8 bits of mantissa; only where it was measured faster.
  With AMX, layers with many outputs sum in another order from 33 rows on: last bits may differ.
- ``int8``: weights per output, inputs per row, symmetric; a slightly different model. Sums are
  exact integers, whoever takes them: ``torch._int_mm`` anywhere, and on x86 the product of
  PyTorch's quantised models, whose weights are packed: with AMX half the time at 8 rows and 0.4 of
  it at 128, in one thread.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from curricle.engine.products import multiply, pack

MIN_ROWS = 8
FEW_ROWS = 64
"""Rows up to which a pass runs in one thread."""
_USUAL_ROWS = 16
_INT8_MAX = 127
_HAS_X86_ONEDNN: bool = torch.backends.mkldnn.is_available() and platform.machine() in (
    "x86_64", "AMD64",
)  # fmt: skip


@contextmanager
def one_thread(few: bool = True) -> Iterator[None]:
    """Compute in this thread alone, where there is little to compute.

    Decoding is thousands of small products, and at the end of each the threads of a pass wait for
    one another. On two idle cores a second thread gains a third; while tests run beside it, as they
    do in a rollout, the waiting took seven tenths of the time.
    """
    threads = torch.get_num_threads()
    if not few or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Linear(Protocol):
    """A product with a fixed weight, without bias."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Map ``(rows, inputs)`` to ``(rows, outputs)``, both float32 or both the model's type."""


class FloatLinear:
    """The weight as it is, in float32 or bfloat16."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = pack(weight, _USUAL_ROWS)  # (outputs, inputs)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """See :class:`Linear`."""
        return multiply(rows, self.weight)


class Int8Linear:
    """The weight in int8 with one scale per output, the input quantised row by row."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.scale = weight.float().abs().amax(1).clamp_(min=1e-12) / _INT8_MAX  # (outputs,)
        self.weight = self._store((weight.float() / self.scale[:, None]).round_().to(torch.int8))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """See :class:`Linear`."""
        scale = rows.abs().amax(1, keepdim=True).clamp_(min=1e-12).mul_(1 / _INT8_MAX)
        return self._multiply((rows / scale).round_()).mul_(scale)

    def _store(self, weight: torch.Tensor) -> torch.Tensor:
        """Return an int8 weight ``(outputs, inputs)`` as ``_multiply`` takes it."""
        return weight.t().contiguous()

    def _multiply(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply whole numbers within an int8, kept as floats, and scale the outputs."""
        return torch.mul(torch._int_mm(rows.to(torch.int8), self.weight), self.scale)


class PackedInt8Linear(Int8Linear):
    """The same numbers by oneDNN, which reads the weight in its own blocks."""

    _SHIFT = 128
    """Inputs are handed over as unsigned bytes above it. Signed ones have a kernel with AMX alone:
    a processor with VNNI took 4,000 times as long for them."""

    def _store(self, weight: torch.Tensor) -> torch.Tensor:
        self._zero = torch.zeros(len(weight), dtype=torch.int32)
        packed: torch.Tensor = torch.ops.onednn.qlinear_prepack(
            weight, [_USUAL_ROWS, weight.shape[1]]
        )
        return packed

    def _multiply(self, rows: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rows.add_(self._SHIFT).to(torch.uint8), 1.0, self._SHIFT,
            self.weight, self.scale, self._zero,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return product


def make_linear(weight: torch.Tensor, compute_type: str) -> Linear:
    """Return the product with a weight of shape ``(outputs, inputs)``."""
    if compute_type == "int8":
        packable = weight.device.type == "cpu" and _HAS_X86_ONEDNN
        return PackedInt8Linear(weight) if packable else Int8Linear(weight)
    dtype = torch.bfloat16 if compute_type == "bfloat16" else torch.float32
    return FloatLinear(weight.detach().to(dtype, copy=False).contiguous())
