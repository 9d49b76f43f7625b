"""From parameters and a checkpoint to a generator."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path

import torch
from transformers import PreTrainedModel

from curricle.agents.generator import Generator
from curricle.checkpoints.store import Store
from curricle.config.generation import GenerationParameters
from curricle.engine.generation.batching import BatchedGenerator
from curricle.engine.generation.library import LibraryDecoder
from curricle.engine.generation.llama import LlamaDecoder, unsupported_reason
from curricle.engine.generation.ragged import Decoder
from curricle.engine.models import load_model, load_tokenizer
from curricle.errors import ConfigError

logger = logging.getLogger(__name__)


def open_generator(
    parameters: GenerationParameters,
    checkpoint: Path | None,
    stop_tokens: Collection[int],
    *,
    precision: str = "fp32",
    store: Store | None = None,
    digest: str | None = None,
    threads: int | None = None,
) -> Generator:
    """Return a generator; close it when it is no longer needed.

    Args:
        parameters: which, and how.
        checkpoint: a saved model with its tokenizer; ``None`` for an endpoint that speaks messages.
        stop_tokens: ids that end an answer.
        precision: the effective precision, which ``compute_type: auto`` follows.
        store: keeps converted checkpoints; for CTranslate2.
        digest: the checkpoint's, where it is known: spares hashing its files.
        threads: of CTranslate2; the others take torch's.

    Raises:
        ConfigError: the backend cannot run the checkpoint, or something that it needs is missing.
    """
    if parameters.endpoint is not None:
        return _open_endpoint(parameters, checkpoint, stop_tokens)
    if checkpoint is None:
        raise ConfigError(
            f"generation.backend={parameters.backend} needs a checkpoint. "
            f"Name one, or use backend=endpoint."
        )
    if parameters.backend == "ctranslate2":
        return _open_ctranslate2(
            parameters, checkpoint, stop_tokens, effective_type(parameters, precision), store,
            digest, threads,
        )  # fmt: skip
    return generator_of(load_model(checkpoint), parameters, stop_tokens, precision=precision)


def generator_of(
    model: PreTrainedModel,
    parameters: GenerationParameters,
    stop_tokens: Collection[int],
    *,
    precision: str = "fp32",
    log_probabilities: bool = False,
) -> BatchedGenerator:
    """Return a generator for a model in memory, as between two steps of its training.

    After the weights changed: ``generator.replace_model(decoder_of(model, ...))``.
    """
    return BatchedGenerator(
        decoder_of(model, parameters, precision=precision),
        stop_tokens,
        batch_size=parameters.batch_size,
        cache_tokens=parameters.cache_tokens,
        prefill_tokens=parameters.prefill_tokens,
        lookup_tokens=parameters.lookup_tokens,
        log_probabilities=log_probabilities,
    )


def decoder_of(
    model: PreTrainedModel, parameters: GenerationParameters, *, precision: str = "fp32"
) -> Decoder:
    """Return the decoder that the parameters ask for, with the model's present weights.

    Raises:
        ConfigError: it cannot run the model, or not in this arithmetic.
    """
    compute_type = effective_type(parameters, precision)
    reason = unsupported_reason(model)
    if parameters.backend == "native" or (parameters.backend == "auto" and not reason):
        return LlamaDecoder(model, compute_type)
    if compute_type == "int8":
        raise ConfigError(
            "generation.compute_type=int8 is there for the native and ctranslate2 backends only"
            + (f", and this model cannot be native: {reason}" if reason else "")
            + ". Use auto, float32 or bfloat16."
        )
    dtype = torch.bfloat16 if compute_type == "bfloat16" else torch.float32
    if next(model.parameters()).dtype != dtype and not model.training:
        model = model.to(dtype)
    return LibraryDecoder(model)


def effective_type(parameters: GenerationParameters, precision: str) -> str:
    """Return the arithmetic: the one asked for, or the one of the measured precision."""
    if parameters.compute_type != "auto":
        return parameters.compute_type
    return "float32" if precision == "fp32" else "bfloat16"


def _open_ctranslate2(
    parameters: GenerationParameters,
    checkpoint: Path,
    stop_tokens: Collection[int],
    compute_type: str,
    store: Store | None,
    digest: str | None,
    threads: int | None,
) -> Generator:
    from curricle.engine.generation.ct2 import CTranslate2Generator, convert_checkpoint

    if store is None:
        raise ConfigError(
            "generation.backend=ctranslate2 keeps converted checkpoints: give a store"
        )
    converted = convert_checkpoint(store, checkpoint, compute_type, digest)
    config = json.loads((checkpoint / "config.json").read_text())
    return CTranslate2Generator(
        converted.path,
        stop_tokens,
        max_context=int(config["max_position_embeddings"]),
        batch_size=parameters.batch_size,
        # Weights in int8, the rest in float32: what the library chooses by itself differs.
        compute_type="int8_float32" if compute_type == "int8" else compute_type,
        threads=threads,
    )


def _open_endpoint(
    parameters: GenerationParameters, checkpoint: Path | None, stop_tokens: Collection[int]
) -> Generator:
    from curricle.engine.generation.endpoint import EndpointGenerator, TextCodec

    assert parameters.endpoint is not None
    codec = None
    if checkpoint is not None and parameters.endpoint.api == "completions":
        tokenizer = load_tokenizer(checkpoint)
        codec = TextCodec(
            decode=lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=False)),
            encode=lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
            stop={str(tokenizer.decode([token])): token for token in stop_tokens},
        )
    return EndpointGenerator(parameters.endpoint, parameters.batch_size, codec)
