"""Turns of agents: our batches with caches that last, against transformers' ``generate``.

The shape is that of a trial on real bugs: SmolLM2-135M, sixteen conversations at once, the system
prompt in common, five short answers each with an observation between them. The weights are random,
so every answer has the same length everywhere. Both read float32. The other lines are for choosing:
our other arithmetics, transformers in bfloat16, and CTranslate2.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curricle.agents.generator import Generator, Turn
from curricle.checkpoints.store import Store
from curricle.config.generation import GenerationParameters
from curricle.engine.generation import generator_of, open_generator

GOAL = 2.0
CONVERSATIONS, TURNS, ANSWER, OBSERVATION = 16, 5, 24, 40
SYSTEM, OWN_SHORTEST, OWN_STEP = 70, 40, 4
VOCABULARY = 49_152


def make_model(seed: int = 0) -> LlamaForCausalLM:
    """Return a model of SmolLM2-135M's shape with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
        tie_word_embeddings=True, rms_norm_eps=1e-5,
    )).eval()  # fmt: skip


def words(count: int, seed: int) -> list[int]:
    """Return random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCABULARY, (count,), generator=generator).tolist()


def prompts() -> list[list[int]]:
    """Return how the conversations begin: of different lengths, with a beginning in common."""
    system = words(SYSTEM, seed=1)
    return [
        [*system, *words(OWN_SHORTEST + OWN_STEP * number, seed=100 + number)]
        for number in range(CONVERSATIONS)
    ]


def with_transformers(model: LlamaForCausalLM) -> float:
    """Return the seconds of all turns when ``generate`` reads each conversation again."""
    started = time.perf_counter()
    spoken = prompts()
    for turn in range(TURNS):
        width = max(map(len, spoken))
        ids = torch.tensor([[0] * (width - len(tokens)) + tokens for tokens in spoken])
        mask = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for t in spoken])
        with torch.no_grad():
            produced = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=ANSWER, do_sample=False,
                eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        spoken = [
            [*tokens, *answer.tolist(), *words(OBSERVATION, seed=turn)]
            for tokens, answer in zip(spoken, produced[:, width:], strict=True)
        ]
    return time.perf_counter() - started


def with_generator(generator: Generator) -> float:
    """Return the seconds of all turns through our interface."""
    started = time.perf_counter()
    added = {f"c{number}": tokens for number, tokens in enumerate(prompts())}
    for turn in range(TURNS):
        for name, tokens in added.items():
            generator.submit(Turn(name, tokens, ANSWER))
        waiting = len(added)
        while waiting:
            waiting -= len(generator.poll(1.0))
        added = {name: words(OBSERVATION, seed=turn) for name in added}
    seconds = time.perf_counter() - started
    generator.close()
    return seconds


def ours(model: LlamaForCausalLM, compute_type: str, backend: str = "native") -> Generator:
    """Return our generator in this process."""
    parameters = GenerationParameters.model_validate(
        {"backend": backend, "compute_type": compute_type, "batch_size": CONVERSATIONS}
    )
    return generator_of(model, parameters, stop_tokens=[])


def save_checkpoint(model: LlamaForCausalLM, folder: Path) -> None:
    """Save the model with a tokenizer of as many words, which is all that CTranslate2 asks for."""
    model.save_pretrained(folder)
    vocabulary = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="w0", bos_token="w0", eos_token="w1"
    ).save_pretrained(folder)


def rates(rounds: int, everything: bool, scratch: Path) -> dict[str, float]:
    """Return the seconds of each way: the best of rounds that take turns."""
    model = make_model()
    ways: dict[str, Callable[[], float]] = {
        "transformers float32": lambda: with_transformers(model),
        "ours float32": lambda: with_generator(ours(model, "float32")),
    }
    if everything:
        checkpoint = scratch / "checkpoint"
        save_checkpoint(model, checkpoint)
        store, short = Store(scratch / "store"), make_model().to(torch.bfloat16)
        ways |= {
            "transformers bfloat16": lambda: with_transformers(short),
            "ours bfloat16": lambda: with_generator(ours(model, "bfloat16")),
            "ours int8": lambda: with_generator(ours(model, "int8")),
            "ours float32, layers of transformers": lambda: with_generator(
                ours(model, "float32", "transformers")
            ),
        }
        for compute_type in ("float32", "int8"):
            parameters = GenerationParameters.model_validate(
                {"backend": "ctranslate2", "compute_type": compute_type}
            )

            def convert_and_run(parameters: GenerationParameters = parameters) -> float:
                generator = open_generator(parameters, checkpoint, [], store=store)
                return with_generator(generator)

            ways[f"ctranslate2 {compute_type}"] = convert_and_run
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, run in ways.items():
            seconds[name] = min(seconds[name], run())
    return seconds


def main() -> int:
    """Print seconds and answer tokens a second of each way, and the ratio in float32."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="also what there is to choose from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seconds = rates(options.rounds, options.all, Path(scratch))
    answered = CONVERSATIONS * TURNS * ANSWER
    for name, value in seconds.items():
        print(f"{name}: {value:.1f} s, {answered / value:.0f} answer tokens/s")
    ratio = seconds["transformers float32"] / seconds["ours float32"]
    print(f"rollouts ratio={ratio:.2f} goal={GOAL}")
    return int(ratio < GOAL)


if __name__ == "__main__":
    sys.exit(main())
