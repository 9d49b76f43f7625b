"""A real project in a folder of its own, with budgets of seconds, run as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import curricle

ROOT = Path(__file__).parents[2]
STAGES = ("pretrain", "sft", "dpo", "lora")

GATES = {
    "pretrain": {"perplexity": {"max": 480}, "next_token_accuracy": {"min": 0}},
    "sft": {
        "assistant_token_accuracy": {"min": 0},
        "refusal_rate": {"min": 0},
        "over_refusal_rate": {"max": 1},
    },
    "dpo": {
        "preference_accuracy": {"min": 0},
        "refusal_rate": {"min": 0},
        "perplexity": {"max": 100, "relative_to": "pretrain"},
    },
    "lora": {
        "task_accuracy": {"min": 0},
        "merge_logit_difference": {"max": 0.001},
        "perplexity": {"max": 100, "relative_to": "pretrain"},
    },
}

MEASURED_LITTLE = {"max_rows": 4, "max_samples": 4, "max_requests": 2, "max_new_tokens": 4}
TRAINED_LITTLE = {"max_length": 256, "batch_size": 4, "precision": "fp32"}


def parameters() -> dict[str, object]:
    """A corpus of this package's own sources, a model of 36 thousand parameters, a dozen steps."""
    little = {name: value for name, value in MEASURED_LITTLE.items() if name != "max_requests"}
    return {
        "corpus": {
            "ingest": {
                "sources": [{"kind": "folder", "path": str(Path(curricle.__file__).parent)}],
                "heldout_share": 0.3,
            },
            "tokenizer": {"vocab_size": 512},
            "pack": {
                "curriculum": [
                    {"seq_length": 64, "share": 0.5},
                    {"seq_length": 128, "share": 0.5},
                ]
            },
        },
        "pretrain": {
            "prepare": {
                "overrides": {
                    "vocab_size": 512,
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_hidden_layers": 2,
                }
            },
            "train": {"tokens_per_step": 512, "max_steps": 20, "precision": "fp32"},
            "evaluate": {"max_rows": 4},
        },
        "sft": {
            "prepare": {"max_train_examples": 16, "max_heldout_examples": 4},
            "train": {**TRAINED_LITTLE, "max_steps": 12},
            "evaluate": MEASURED_LITTLE,
        },
        "dpo": {
            "prepare": {"max_train_pairs": 16, "max_heldout_pairs": 4},
            "train": {**TRAINED_LITTLE, "max_steps": 12},
            "evaluate": MEASURED_LITTLE,
        },
        "lora": {
            "prepare": {"min_heldout_per_class": 2, "max_heldout_per_class": 4},
            "train": {**TRAINED_LITTLE, "max_steps": 12},
            "evaluate": little,
        },
        "run": {"checkpoint_every_s": 0.001, "threads": 1},
    }


class Project:
    """A Kedro project on disk.

    Attributes:
        path: its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path) -> Project:
        """Copy this project's configuration, and add the environment ``tiny``."""
        (path / "src").mkdir(parents=True)
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(ROOT / name, path / name)
        shutil.copytree(ROOT / "conf", path / "conf")
        tiny = path / "conf" / "tiny"
        tiny.mkdir()
        for name, content in {"parameters": parameters(), "gates": {"gates": GATES}}.items():
            (tiny / f"{name}.yml").write_text(yaml.safe_dump(content))
        return cls(path)

    def copy(self, path: Path) -> Project:
        """Return a copy of it with all its results; handles are relative, so it can move."""
        shutil.copytree(self.path, path)
        return Project(path)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``kedro run`` with some arguments."""
        return self._start([sys.executable, "-m", "kedro", "run", "--env", "tiny", *arguments])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``kedro run`` to its end."""
        return self._finish(self.start(*arguments))

    def python(self, program: str) -> subprocess.CompletedProcess[str]:
        """Run a Python program in the project's folder."""
        return self._finish(self._start([sys.executable, "-c", program]))

    def digests(self) -> dict[str, dict[str, str]]:
        """Return the digests of all finished results by step and fingerprint."""
        found: dict[str, dict[str, str]] = {}
        for manifest in sorted(self.store.glob("*/*/manifest.json")):
            step, fingerprint = manifest.parts[-3:-1]
            content = json.loads(manifest.read_text())
            del content["measured"]
            found.setdefault(step, {})[fingerprint] = json.dumps(content, sort_keys=True)
        return found

    def certificates(self) -> dict[str, str]:
        """Return the hash of each stage's current certificate."""
        return {
            stage: json.loads(path.read_text())["hash"]
            for stage in STAGES
            if (path := self.certificate(stage)).exists()
        }

    def certificate(self, stage: str) -> Path:
        """Return where a stage's certificate is."""
        return self.path / "data" / "06_models" / f"{stage}_checkpoint.json"

    @property
    def store(self) -> Path:
        """The folder of results."""
        return self.path / "data" / "store"

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip

    @staticmethod
    def _finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        output, _ = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose general curriculum ran once, undisturbed. Copy it before you change it."""
    project = Project.create(tmp_path_factory.mktemp("reference") / "project")
    done = project.run("--pipelines", "general")
    assert done.returncode == 0, done.stdout[-6000:]
    return project
