"""Every architecture of the library in ragged batches, held to the library's own passes."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from curricle.agents.generator import Turn
from curricle.engine.generation.batching import BatchedGenerator
from curricle.engine.generation.library import LibraryDecoder
from curricle.engine.generation.llama import LlamaDecoder
from curricle.engine.generation.ragged import Piece

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 256, "initializer_range": 0.3,
}  # fmt: skip


def make(name: str) -> PreTrainedModel:
    torch.manual_seed(1)
    if name == "gpt_oss":
        model = GptOssForCausalLM(GptOssConfig(
            **SMALL, num_local_experts=4, num_experts_per_tok=2, sliding_window=16,
            layer_types=["sliding_attention", "full_attention"], attn_implementation="eager",
        ))  # fmt: skip
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.sinks)
        return model.eval()
    if name == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**SMALL)).eval()
    return LlamaForCausalLM(LlamaConfig(**SMALL)).eval()


def prompt(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, 64, (length,), generator=generator).tolist()


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt_oss"])
def test_packed_pieces_have_the_logits_of_whole_conversations(name: str) -> None:
    model = make(name)
    decoder = LibraryDecoder(model)
    prompts = [prompt(5, 1), prompt(70, 2), prompt(150, 3)]
    caches = [decoder.new_cache() for _ in prompts]
    decoder.forward([Piece(c, p[:-3], wanted=0) for c, p in zip(caches, prompts, strict=True)])
    decoder.forward([Piece(c, p[-3:-1], wanted=0) for c, p in zip(caches, prompts, strict=True)])
    logits = decoder.forward([Piece(c, p[-1:]) for c, p in zip(caches, prompts, strict=True)])
    with torch.no_grad():
        expected = [model(torch.tensor([tokens])).logits[0, -1] for tokens in prompts]
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-3, atol=1e-3)


def test_a_model_in_training_is_left_as_it_was() -> None:
    model = make("llama").train()
    before = model.config._attn_implementation
    decoder = LibraryDecoder(model)
    decoder.forward([Piece(decoder.new_cache(), prompt(5, 1))])
    assert model.training
    assert model.config._attn_implementation == before
    assert model(torch.tensor([prompt(5, 1)])).logits.requires_grad


def test_both_decoders_give_the_same_turns() -> None:
    model = make("llama")
    answers = []
    for decoder in (LibraryDecoder(model), LlamaDecoder(model)):
        generator = BatchedGenerator(decoder, stop_tokens=[1], batch_size=2)
        spoken = []
        for turn in range(2):
            for number in range(4):
                generator.submit(Turn(f"c{number}", prompt(9 + 20 * number, turn), 7))
            done = {}
            while len(done) < 4:
                done |= {completion.conversation: completion for completion in generator.poll(1)}
            spoken.append([done[f"c{number}"].tokens for number in range(4)])
        answers.append(spoken)
    assert answers[0] == answers[1]
