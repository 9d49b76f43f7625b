import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from curricle.config.chat import TaskParameters
from curricle.errors import DataError
from curricle.pipelines.lora.tasks import LABELS, build_task, keyword_rule
from curricle.pipelines.sft.functions import functions

FILES = ("train.jsonl", "heldout.jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Task:
    """A task that was built, with its report."""

    def __init__(self, folder: Path, documents: Path, **parameters: Any) -> None:
        folder.mkdir()
        self.folder = folder
        settings = {"min_heldout_per_class": 4, **parameters}
        self.report = build_task(folder, documents, TaskParameters(**settings))
        self.train, self.heldout = (read(folder / name) for name in FILES)


@pytest.fixture
def task(tmp_path: Path, documents: Path) -> Task:
    return Task(tmp_path / "task", documents)


def test_classes_are_balanced_in_both_splits(task: Task) -> None:
    assert Counter(row["label"] for row in task.train) == dict.fromkeys(LABELS, 12)
    assert Counter(row["label"] for row in task.heldout) == dict.fromkeys(LABELS, 4)
    assert task.report["train"] == dict.fromkeys(LABELS, 12)
    assert task.report["majority_baseline"] == 0.25


def test_labels_follow_the_syntax_tree(task: Task) -> None:
    kinds = {"visible": "raises", "keep": "procedure", "walk": "generator", "ask": "returns"}
    for row in task.train + task.heldout:
        name = row["messages"][0]["content"].removeprefix("def ").partition("_")[0]
        assert row["label"] == row["messages"][-1]["content"] == kinds[name]


def test_the_question_is_the_same_last_line_of_every_row(task: Task) -> None:
    asked = {row["messages"][0]["content"].splitlines()[-1] for row in task.train + task.heldout}
    assert asked == {"Answer with one word: generator, raises, returns or procedure."}
    assert asked == {task.report["question"]}


def test_the_function_is_shown_without_docstring_and_parses(task: Task) -> None:
    for row in task.heldout:
        (definition,) = ast.parse(row["messages"][0]["content"].rpartition("\n\n")[0]).body
        assert ast.get_docstring(definition) is None  # type: ignore[arg-type]


def test_no_file_is_in_both_splits(task: Task) -> None:
    sources = [{row["source"] for row in side} for side in (task.train, task.heldout)]
    assert sources[1] and not sources[0] & sources[1]


def test_a_second_build_is_byte_identical(tmp_path: Path, documents: Path, task: Task) -> None:
    second = Task(tmp_path / "second", documents)
    for name in FILES:
        assert (task.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_a_class_too_rare_to_measure_is_left_out_and_named(tmp_path: Path, documents: Path) -> None:
    heldout = documents / "heldout.jsonl"
    heldout.write_text(heldout.read_text().replace("            yield entry", "            pass"))
    task = Task(tmp_path / "task", documents)
    assert task.report["left_out"] == ["generator"]
    assert task.report["labels"] == ["raises", "returns", "procedure"]
    assert {row["label"] for row in task.train} == {"raises", "returns", "procedure"}
    assert task.heldout[0]["messages"][0]["content"].endswith("raises, returns or procedure.")


def test_a_corpus_with_too_few_functions_is_refused(tmp_path: Path, documents: Path) -> None:
    with pytest.raises(DataError, match="fewer than two classes have 20 functions"):
        Task(tmp_path / "task", documents, min_heldout_per_class=20)


def test_sizes_are_bounded_per_class(tmp_path: Path, documents: Path) -> None:
    task = Task(tmp_path / "task", documents, max_train_per_class=3, max_heldout_per_class=2)
    assert (len(task.train), len(task.heldout)) == (12, 8)


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("def f():\n    yield 1", "generator"),
        ("def f():\n    raise E", "raises"),
        ("def f():\n    return 1", "returns"),
        ("def f():\n    return", "procedure"),
        ("def f():\n    x.returned = 1", "procedure"),
        ("def f():\n    # may raise\n    return 1", "raises"),
    ],
)
def test_the_keyword_rule_looks_at_words_alone(source: str, label: str) -> None:
    assert keyword_rule(source, LABELS) == label


def test_the_keyword_rule_is_scored_on_the_heldout_split(tmp_path: Path, documents: Path) -> None:
    heldout = documents / "heldout.jsonl"
    assert len(list(functions(heldout, documented=False))) == 16
    heldout.write_text(
        heldout.read_text().replace(
            "for entry in self", "# yield, raise\\n        for entry in self"
        )
    )
    assert Task(tmp_path / "task", documents).report["keyword_rule_accuracy"] == 1.0
    heldout.write_text(
        heldout.read_text().replace("self.count += 1", "self.count += 1  # return 1")
    )
    assert Task(tmp_path / "other", documents).report["keyword_rule_accuracy"] == 0.75
