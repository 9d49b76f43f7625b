"""The agent's curriculum against one stage of SFT of as many tokens, over several seeds.

Both begin with the foundation. The curriculum is that of the environment: its tokens are those that
its SFT stages train on, both sides of its preference pairs, and all that its attempts at bugs read
and wrote, rejected ones included. The single stage trains on the questions and the repairs of all
SFT stages together, in one shuffled mixture, until it has seen as many. Both are measured greedily
on the same held-out bugs, those of a second environment if it has more of them, and compared bug by
bug, each bug by its mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from curricle.agents.statistics import compare
from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.manifest import read_manifest
from curricle.checkpoints.store import Store, Stored
from curricle.config.base import RunSettings
from curricle.config.training import LoraParameters
from curricle.engine.agent_rows import take_samples
from curricle.engine.models import load_tokenizer
from curricle.launch.run import obtain_by_job
from curricle.pipelines.sft.rows import read_rows, write_rows
from curricle.reporting.attempts import ATTEMPTS, read_attempts, stored_attempts
from curricle.stages.build import obtain_by_builder

PROJECT = Path(__file__).resolve().parents[1]
SFT = ("tui_tools", "tui_agent", "lang_python_sft")
SEEDED = (
    "tui_tools", "tui_agent", "tui_ipo", "tui_grpo",
    *(f"language.stages.{kind}" for kind in ("sft", "ipo", "grpo")),
)  # fmt: skip
MEASURED = ("eval_python.find", "eval_python.attempt")


def kedro(
    environment: str, pipelines: str, parameters: dict[str, Any], nodes: Iterable[str] = ()
) -> None:
    """Run pipelines of the project, or some of their nodes."""
    given = ",".join(f"{key}={value}" for key, value in parameters.items())
    command = [Path(sys.executable).with_name("kedro"), "run", "--env", environment,
               "--pipelines", pipelines]  # fmt: skip
    if parameters:
        command += ["--params", given]
    if nodes:
        command += ["--nodes", ",".join(nodes)]
    subprocess.run(command, cwd=PROJECT, check=True,
                   env={**os.environ, "KEDRO_DISABLE_TELEMETRY": "1"})  # fmt: skip


def certificate(data: Path, stage: str) -> Certificate:
    """Return the certificate that a stage's gate wrote."""
    folder = data / "06_models"
    content = json.loads((folder / f"{stage}_checkpoint.json").read_text())
    return Certificate.from_json(content, folder)


def lineage(last: Certificate) -> Iterator[Certificate]:
    """Yield the stages that trained something, the last one first."""
    at: Certificate | None = last
    while at is not None and at.stage != "foundation":
        if at.stage != "tui":  # it takes the last candidate again
            yield at
        at = at.parent


def spent_tokens(store: Store, last: Certificate) -> int:
    """Count what a curriculum read and wrote to get where it is."""
    total = 0
    for at in lineage(last):
        total += at.candidate.manifest().effective["tokens"]
        assert at.parent is not None, "the foundation is the last of them"
        tried = stored_attempts(store, f"{at.stage}.rollouts", "model", at.parent.candidate.digest)
        manifest = read_manifest(tried.parent) if tried is not None else None
        total += manifest.effective["tokens"] if manifest is not None else 0
    return total


def train_single(run: RunSettings, data: Path, last: Certificate, tokens: int, seed: int) -> Stored:
    """Train the foundation on a shuffled mixture of what all SFT stages train on."""
    stages = {at.stage: at.candidate.manifest().identity for at in lineage(last)}
    inputs = {
        name: next(found for found in Store(run.store).results(f"{name}.data")
                   if found.digest == stages[name]["inputs"]["data"])
        for name in SFT
    }  # fmt: skip
    foundation = certificate(data, "foundation").candidate
    parameters = stages["tui_agent"]["parameters"] | {
        "renderer": "plain", "seed": seed, "precision": "auto", "max_train_tokens": None,
        "max_steps": None,
    }  # fmt: skip

    def mix(folder: Path) -> dict[str, Any]:
        rows = [row for part in inputs.values() for _, row in read_rows(part.path / "train.jsonl")]
        random.Random(seed).shuffle(rows)
        return {"rows": write_rows(folder / "train.jsonl", rows)}

    mixed = obtain_by_builder(run, "single.data", mix, revision=1, inputs=inputs,
                              parameters=LoraParameters(**parameters))  # fmt: skip
    tokenizer = load_tokenizer(foundation.path)
    _, counts = take_samples(tokenizer, mixed.path / "train.jsonl", LoraParameters(**parameters),
                             "single.train")  # fmt: skip
    parameters["num_train_epochs"] = round(tokens / counts["tokens"], 3)
    return obtain_by_job(run, "single.train", "lora", {"start": foundation, "data": mixed},
                         parameters)  # fmt: skip


def fixed_by(store: Store, model: Stored) -> dict[str, float]:
    """Return the held-out bugs that the newest greedy attempts of a model fixed."""
    for attempts in reversed(store.results("eval_python.attempts")):
        identity = attempts.manifest().identity
        greedy = identity["parameters"]["rollouts"]["samples"] == 1
        if greedy and identity["inputs"].get("model") == model.digest:
            return {
                attempt.task: float(bool(attempt.verdict.fixed))
                for attempt in read_attempts(attempts.path / ATTEMPTS)
                if attempt.verdict.fixed is not None
            }
    raise FileNotFoundError(f"no greedy attempts of {model.path}")


def store_of(environment: str) -> Store:
    """Return where an environment keeps its results."""
    return Store(data_of(environment) / "store")


def data_of(environment: str) -> Path:
    """Return the folder that an environment works in."""
    return PROJECT / ("data" if environment == "base" else f"data/{environment}")


def projects_of(environment: str, split: str) -> set[str]:
    """Return the projects whose bugs are on a side of an environment's split."""
    folder = store_of(environment).results("tasks_python.split")[-1].path
    return {row["mutant"]["project"] for _, row in read_rows(folder / f"{split}.jsonl")}


def main() -> int:
    """Train both arms for every seed, and print each comparison and the one over all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="base")
    parser.add_argument("--bugs", default="workstation", help="environment whose bugs are measured")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    data, store = data_of(options.env), store_of(options.env)
    run = RunSettings(store=store.root)
    for environment in {options.env, options.bugs}:
        kedro(environment, "tasks_python", {})
    learned = projects_of(options.env, "train") | projects_of(options.env, "tui")
    if shown := learned & projects_of(options.bugs, "heldout"):
        raise ValueError(f"{', '.join(sorted(shown))}: learned from in one environment, held out "
                         "in the other")  # fmt: skip
    arms: dict[str, dict[str, list[float]]] = {
        "single": defaultdict(list), "curriculum": defaultdict(list),
    }  # fmt: skip
    for seed in options.seeds:
        kedro(options.env, "coding_tui,lang_python",
              {f"{stage}.train.seed": seed for stage in SEEDED})  # fmt: skip
        last = certificate(data, "lang_python_grpo")
        tokens = spent_tokens(store, last)
        alone = train_single(run, data, last, tokens, seed)
        for arm, model in (("curriculum", last.candidate), ("single", alone)):
            kedro(options.bugs, "eval_python", {"evaluation.checkpoint": model.path}, MEASURED)
            found = fixed_by(store_of(options.bugs), model)
            for task, fixed in found.items():
                arms[arm][task].append(fixed)
            print(f"seed {seed}: {arm} fixed {sum(found.values()):g} of {len(found)}", flush=True)
        print(f"seed {seed}: {tokens} tokens an arm", flush=True)
    means = {arm: {task: mean(fixed) for task, fixed in of.items()} for arm, of in arms.items()}
    both = compare(means["single"], means["curriculum"])
    print(f"curriculum minus single: gain {both.gain:.3f}, {both.low:.3f} to {both.high:.3f}, "
          f"only the curriculum {both.only_second}, only the single stage {both.only_first}, "
          f"p {both.p:.3f}")  # fmt: skip
    print(f"curriculum_against_single ratio={both.gain:.3f} goal=0.000")
    return int(both.gain <= 0)


if __name__ == "__main__":
    sys.exit(main())
