"""The samples of curricle-python as projects, for tests that run them."""

from pathlib import Path

from curricle_python.samples import SAMPLES

from curricle.checkpoints.hashing import hash_tree
from curricle.languages import Project


def sample_project(name: str) -> Project:
    (sample,) = [sample for sample in SAMPLES if sample["name"] == name]
    root = Path(sample["path"])
    return Project(
        name, "python", root, hash_tree(root), tuple(sample["sources"]), tuple(sample["tests"]),
        sample["options"],
    )  # fmt: skip
