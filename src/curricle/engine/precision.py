"""Measures which precision is faster here, and asserts the one in force.

Proxies of a stage's matrix shapes, in turns, each at its best; the faster wins. The first product
of a kind makes its kernel, at a seventh of the speed of those after it, and a neighbour on the
machine slows whoever computes just then: neither may decide how hours of training run. On an
AVX2-only processor bf16 is 8 to 600 times slower than fp32, so the time of each is bounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from curricle.engine.hardware import detect_gpu_type, device
from curricle.engine.products import multiply
from curricle.errors import ConfigError
from curricle.launch.job import Job, JobResult

Shape = tuple[int, int, int]  # rows, inputs, outputs

_SHAPES: tuple[Shape, ...] = ((512, 128, 384), (512, 576, 1536), (1024, 1024, 1024))
_BUDGET_S = 0.25


def probe_job(job: Job) -> JobResult:
    """Report the faster precision of this machine and the rates that decided it."""
    if detect_gpu_type().tier != "cpu":
        supported = torch.cuda.is_bf16_supported()
        return JobResult(effective={"precision": "bf16" if supported else "fp32", "gflops": {}})
    rates = gflops({name: partial(_train_products, dtype) for name, dtype in _DTYPES.items()})
    faster = max(rates, key=lambda name: rates[name])
    return JobResult(effective={"precision": faster, "gflops": rates})


def autocast(precision: str) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs: weights stay in fp32.

    Raises:
        ConfigError: the precision is one that no context gives, such as fp8.
    """
    if precision == "fp32":
        return nullcontext()
    if precision not in _DTYPES:
        raise ConfigError(
            f"precision={precision} is not available here, and nothing else may take its place "
            f"unseen. Use {' or '.join(_DTYPES)}, or auto, which measures."
        )
    return torch.autocast(device().type, dtype=torch.bfloat16)


class Witness:
    """Sees in which precision a model is trained, whatever was configured.

    A trainer wraps the model's own call into its autocast. Code that reaches the layers another way
    is outside of it, and trains in fp32 at a quarter of the speed without a word.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        """Watch the linear layers of a model: not every one is called where several are fused."""
        self._seen: set[torch.dtype] = set()
        self._hooks = [
            module.register_forward_hook(self._see)
            for module in model.modules()
            if isinstance(module, (torch.nn.Linear, BaseTunerLayer))
        ]

    def _see(self, layer: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        if torch.is_grad_enabled():
            self._seen.add(output.dtype)

    def require(self, precision: str, step: str) -> None:
        """Stop watching, and make sure that nothing else than ``precision`` was seen.

        Raises:
            ConfigError: something else was.
        """
        for hook in self._hooks:
            hook.remove()
        others = sorted(str(dtype) for dtype in self._seen - {_DTYPES.get(precision)})
        if others:
            raise ConfigError(
                f"{step}: precision {precision} was asked for, {', '.join(others)} is in force"
            )


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def gflops(
    contestants: Mapping[str, Callable[[Shape], float]],
    shapes: tuple[Shape, ...] = _SHAPES,
    budget_s: float = _BUDGET_S,
) -> dict[str, float]:
    """Measure each contestant at its best, all of them in turns.

    Args:
        contestants: each returns the seconds that it took for one shape.
        shapes: small ones first, so that one that is far behind is known early.
        budget_s: seconds of each; it is exceeded by one product at the most.

    Returns:
        GFLOP/s of each over the shapes that all of them came to.
    """
    best: dict[str, dict[Shape, float]] = {name: {} for name in contestants}
    left = dict.fromkeys(contestants, budget_s)
    while any(seconds > 0 for seconds in left.values()):
        for shape in shapes:
            for name in (name for name in contestants if left[name] > 0):
                seconds = contestants[name](shape)
                left[name] -= seconds
                best[name][shape] = min(seconds, best[name].get(shape, seconds))
    common = [shape for shape in shapes if all(shape in measured for measured in best.values())]
    operations = sum(3 * 2.0 * rows * inputs * outputs for rows, inputs, outputs in common)
    return {
        name: round(operations / sum(measured[shape] for shape in common) / 1e9, 1)
        for name, measured in best.items()
    }


def _train_products(dtype: torch.dtype, shape: Shape) -> float:
    """Return the seconds of a layer's three products: forward, to its input, to its weight."""
    rows, inputs, outputs = shape
    x = torch.ones(rows, inputs, dtype=dtype)
    w = torch.ones(outputs, inputs, dtype=dtype)
    started = time.perf_counter()
    y = multiply(x, w)
    multiply(y, w.t())
    y.t() @ x
    return time.perf_counter() - started
