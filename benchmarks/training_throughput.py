"""Pretraining throughput against a bare PyTorch loop: same model, batches and precision.

The bare loop is what one writes first: forward with labels, backward, clip, step. It neither
isolates documents nor records anything, so it does less. Runs alternate; medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from curricle.config.training import PretrainParameters
from curricle.engine.hardware import setup_torch_backends
from curricle.engine.models import architecture_config
from curricle.engine.pretraining import ContextStage, Pretrainer
from curricle.launch.job import Job
from curricle.pipelines.corpus.packed import PackedArray

GOAL = 0.95
TOKENS_PER_STEP = 1024
VOCABULARY = 4096


def make_rows(folder: Path, seq_length: int, rows: int) -> PackedArray:
    """Write packed rows of random tokens, four documents a row."""
    generator = np.random.default_rng(0)
    np.save(
        folder / f"train_{seq_length}.npy", generator.integers(4, VOCABULARY, (rows, seq_length))
    )
    piece = seq_length // 4
    segments = [(row, start, piece) for row in range(rows) for start in range(0, seq_length, piece)]
    np.save(folder / f"train_{seq_length}.segments.npy", np.array(segments, dtype=np.int32))
    return PackedArray.open(folder / f"train_{seq_length}.npy", eos_id=0, pad_id=1)


def make_model() -> LlamaForCausalLM:
    """Return the small architecture with fixed weights."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(architecture_config("llama_small", {})).train()


class Ours:
    """The steps of curricle's loop."""

    def __init__(self, packed: PackedArray, steps: list[np.ndarray], folder: Path) -> None:
        parameters = PretrainParameters(learning_rate=1e-3, tokens_per_step=TOKENS_PER_STEP)
        stage = ContextStage(packed.seq_length, packed, steps)
        job = Job(kind="pretrain", step="bench", inputs={}, parameters={}, precision="fp32",
                  output=folder, resume=folder / "resume", checkpoint_every_s=1e9)  # fmt: skip
        self.trainer = Pretrainer(make_model(), [stage], parameters, job)
        self.steps = steps

    def run(self) -> None:
        """Take all steps once."""
        self.trainer.curve = []
        self.trainer.run(len(self.steps[0]))


class Bare:
    """The loop that one would write by hand."""

    def __init__(self, packed: PackedArray, steps: list[np.ndarray]) -> None:
        self.model = make_model()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.batches = [torch.from_numpy(np.asarray(packed.tokens[rows])) for rows in steps]

    def run(self) -> None:
        """Take all steps once."""
        for input_ids in self.batches:
            loss = self.model(input_ids=input_ids, labels=input_ids, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            loss.item()


def main() -> int:
    """Measure every context length of base, and print the median ratio of all pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    setup_torch_backends()
    torch.set_num_threads(arguments.threads)
    ratios = []
    for seq_length in (128, 256, 512):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rows_per_step = TOKENS_PER_STEP // seq_length
            packed = make_rows(folder, seq_length, rows_per_step * arguments.steps)
            steps = list(np.arange(len(packed)).reshape(arguments.steps, rows_per_step))
            ours, bare = Ours(packed, steps, folder), Bare(packed, steps)
            ours.run()
            bare.run()
            pairs = []
            for _ in range(arguments.rounds):
                seconds = []
                for loop in (ours, bare):
                    started = time.perf_counter()
                    loop.run()
                    seconds.append(time.perf_counter() - started)
                pairs.append(seconds[1] / seconds[0])
            ratios += pairs
            print(f"context {seq_length}: median {statistics.median(pairs):.3f} of "
                  f"{', '.join(f'{pair:.2f}' for pair in sorted(pairs))}")  # fmt: skip
    ratio = statistics.median(ratios)
    print(f"training_throughput ratio={ratio:.3f} goal={GOAL}")
    return int(ratio < GOAL)


if __name__ == "__main__":
    sys.exit(main())
