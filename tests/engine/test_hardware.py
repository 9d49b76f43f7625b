"""Hardware is detected: a CPU here, and a GPU's tier by its compute capability."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from curricle.engine.hardware import GPUInfo, detect_gpu_type, device, setup_torch_backends


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A CUDA device of a compute capability, as PyTorch would describe it."""
    major, minor = request.param
    properties = SimpleNamespace(major=major, minor=minor, name="GPU", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_the_cpu() -> None:
    assert detect_gpu_type() == GPUInfo(tier="cpu", name="cpu")
    assert device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("gpu", "tier"),
    [((10, 0), "h100"), ((9, 0), "h100"), ((8, 9), "a100"), ((8, 0), "a100"), ((7, 5), "other")],
    indirect=["gpu"],
)
def test_the_tier_follows_from_the_compute_capability(gpu: None, tier: str) -> None:
    info = detect_gpu_type()
    assert (info.tier, info.count, info.memory_gb) == (tier, 8, 80.0)


@pytest.mark.parametrize("gpu", [(9, 0)], indirect=True)
def test_each_process_has_the_device_of_its_rank(
    gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device() == torch.device("cuda", 3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_cpu_multiplies_in_full_precision() -> None:
    setup_torch_backends()
    assert torch.get_float32_matmul_precision() == "highest"
