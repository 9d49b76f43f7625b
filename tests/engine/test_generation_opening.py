"""Which generator parameters and a checkpoint give."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from curricle.agents.generator import Turn
from curricle.checkpoints.store import Store
from curricle.config.generation import GenerationParameters
from curricle.engine.generation import generator_of, open_generator
from curricle.engine.generation.opening import effective_type
from curricle.engine.models import load_model, load_tokenizer
from curricle.errors import ConfigError


def answer(checkpoint: Path, store: Path, backend: str) -> tuple[int, ...]:
    parameters = GenerationParameters.model_validate({"backend": backend})
    stop = [load_tokenizer(checkpoint).eos_token_id]
    generator = open_generator(parameters, checkpoint, stop, store=Store(store), threads=1)
    with closing(generator):
        generator.submit(Turn("a", list(range(10, 40)), 10))
        while True:
            if done := generator.poll(1.0):
                return tuple(done[0].tokens)


def test_every_backend_in_this_process_gives_the_checkpoints_answer(
    initial: Path, tmp_path: Path
) -> None:
    backends = ("auto", "native", "transformers", "ctranslate2")
    assert len({answer(initial, tmp_path / "store", backend) for backend in backends}) == 1


def test_the_arithmetic_follows_the_measured_precision_unless_named() -> None:
    assert effective_type(GenerationParameters(), "bf16") == "bfloat16"
    assert effective_type(GenerationParameters(), "fp32") == "float32"
    assert effective_type(GenerationParameters(compute_type="int8"), "bf16") == "int8"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backend": "transformers", "compute_type": "int8"}, "native and ctranslate2"),
        ({"backend": "ctranslate2"}, "give a store"),
    ],
)
def test_what_a_backend_lacks_is_an_error_with_the_way_out(
    initial: Path, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_generator(GenerationParameters.model_validate(parameters), initial, [1])


def test_a_backend_without_a_checkpoint_is_an_error() -> None:
    with pytest.raises(ConfigError, match="needs a checkpoint"):
        open_generator(GenerationParameters(), None, [1])


def test_an_endpoint_and_its_backend_come_together() -> None:
    with pytest.raises(ValidationError, match="set both or neither"):
        GenerationParameters.model_validate({"backend": "endpoint"})
    with pytest.raises(ValidationError, match="set both or neither"):
        GenerationParameters.model_validate({"endpoint": {"url": "http://x/v1", "model": "m"}})


def test_completions_of_an_endpoint_need_the_checkpoint_whose_tokenizer_renders() -> None:
    parameters = GenerationParameters.model_validate({
        "backend": "endpoint",
        "endpoint": {"url": "http://localhost:1/v1", "model": "m", "api": "completions"},
    })  # fmt: skip
    with pytest.raises(ConfigError, match="needs a tokenizer"):
        open_generator(parameters, None, [1])


def test_a_model_in_memory_generates_without_a_checkpoint(initial: Path) -> None:
    model = load_model(initial)
    generator = generator_of(model, GenerationParameters(), [1], log_probabilities=True)
    generator.submit(Turn("a", [5, 6, 7], 4))
    while not (done := generator.poll(1.0)):
        pass
    assert len(done[0].log_probabilities) == len(done[0].tokens)
    assert all(value <= 0 for value in done[0].log_probabilities)
