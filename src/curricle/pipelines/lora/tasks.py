"""Builds the task of the LoRA stage: say in one word what kind of function this is.

The answer follows from the syntax tree, so it can be checked by exact match, and classes are
balanced, so guessing scores one over their number. A rule that only looks for keywords does well:
the report says how well, because an adapter that stays below it has learned less than one line.
"""

import logging
import random
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from curricle.config.chat import TaskParameters
from curricle.errors import DataError
from curricle.pipelines.sft.conversations import reply
from curricle.pipelines.sft.functions import Function, functions, without_copies
from curricle.pipelines.sft.rows import Row, write_rows

logger = logging.getLogger(__name__)

LABELS = ("generator", "raises", "returns", "procedure")
"""In this order: it yields; or it raises explicitly; or it returns a value; or none of these."""

_KEYWORDS = {"generator": "yield", "raises": "raise", "returns": "return "}


def build_task(folder: Path, documents: Path, parameters: TaskParameters) -> dict[str, Any]:
    """Write `train.jsonl` and `heldout.jsonl` into `folder`: `{"messages", "label", "source"}`.

    The user shows a function without docstring, decorators and annotations, and asks in a last
    line that never changes; the assistant answers with the label alone.

    Args:
        folder: Where the files go; it exists.
        documents: A folder of `train.jsonl` and `heldout.jsonl`, split by file.
        parameters: What to make, and how much of it.

    Returns:
        The report: labels asked and left out, how many functions of each were found and are used,
        and held-out accuracies (0 to 1) of always giving one label and of the keyword rule.

    Raises:
        DataError: Documents cannot be used, or fewer than two classes have enough functions.
    """
    found = {
        split: [
            function
            for function in functions(
                documents / f"{split}.jsonl",
                max_chars=parameters.max_function_chars,
                min_lines=parameters.min_body_lines,
                max_lines=parameters.max_body_lines,
                documented=False,
            )
            if not function.is_async
        ]
        for split in ("train", "heldout")
    }
    found["train"], dropped = without_copies(found["train"], found["heldout"])
    counts = {split: Counter(map(label_of, group)) for split, group in found.items()}
    labels = _measurable(counts, parameters.min_heldout_per_class, documents)
    limits = {
        "train": parameters.max_train_per_class,
        "heldout": parameters.max_heldout_per_class,
    }
    rows = {}
    for split, group in found.items():
        size = min(limits[split], *(counts[split][label] for label in labels))
        rows[split] = _balanced_rows(group, labels, size, parameters.seed)
        write_rows(folder / f"{split}.jsonl", rows[split])
    report = {
        "labels": list(labels),
        "left_out": [label for label in LABELS if label not in labels],
        "question": question(labels),
        "found": {split: {label: counts[split][label] for label in LABELS} for split in found},
        "copies_of_heldout_dropped": dropped,
        **{split: _counts(rows[split]) for split in rows},
        "majority_baseline": round(1 / len(labels), 4),
        "keyword_rule_accuracy": _rule_accuracy(rows["heldout"], labels),
    }
    logger.info("task: train %s, heldout %s", report["train"], report["heldout"])
    return report


def label_of(function: Function) -> str:
    """The function's label, by its syntax tree: the first of `LABELS` that holds."""
    holds = (function.is_generator, function.raises, function.returns_value, True)
    return next(label for label, is_so in zip(LABELS, holds, strict=True) if is_so)


def shown(function: Function) -> str:
    """The function as the task shows it: no docstring, no decorators, no annotations."""
    return f"{function.bare_signature}\n{textwrap.indent(function.body, '    ')}"


def question(labels: Sequence[str]) -> str:
    """The last line of the user's turn: the same for every row of a data set."""
    return f"Answer with one word: {', '.join(labels[:-1])} or {labels[-1]}."


def keyword_rule(source: str, labels: Sequence[str]) -> str:
    """The label that the first keyword found in the text suggests; no syntax, no scope."""
    for label in labels:
        if _KEYWORDS.get(label, "") in source:
            return label
    return labels[-1]


def _measurable(counts: dict[str, Counter[str]], minimum: int, documents: Path) -> tuple[str, ...]:
    """The labels with enough functions on both sides; the others are named in the log."""
    labels = tuple(
        label for label in LABELS if min(counts[split][label] for split in counts) >= minimum
    )
    for label in LABELS:
        if label not in labels:
            logger.warning(
                "task: %r is left out: %s training and %s held-out functions, fewer than "
                "min_heldout_per_class=%s",
                label, counts["train"][label], counts["heldout"][label], minimum,
            )  # fmt: skip
    if len(labels) < 2:  # noqa: PLR2004
        raise DataError(
            f"{documents}: fewer than two classes have {minimum} functions in train.jsonl and in "
            f"heldout.jsonl (held out: {dict(sorted(counts['heldout'].items()))}). Lower "
            "min_heldout_per_class, or hold out more files."
        )
    return labels


def _balanced_rows(
    group: Sequence[Function], labels: Sequence[str], size: int, seed: int
) -> list[Row]:
    draw = random.Random(f"task:{seed}")
    rows = []
    for label in labels:
        having = [function for function in group if label_of(function) == label]
        rows += [_row(function, labels) for function in draw.sample(having, size)]
    draw.shuffle(rows)
    return rows


def _row(function: Function, labels: Sequence[str]) -> Row:
    asked = f"{shown(function)}\n\n{question(labels)}"
    label = label_of(function)
    return {
        "messages": [{"role": "user", "content": asked}, reply(label)],
        "label": label,
        "source": function.path,
    }


def _rule_accuracy(rows: Sequence[Row], labels: Sequence[str]) -> float:
    right: int = sum(
        keyword_rule(row["messages"][0]["content"].rpartition("\n\n")[0], labels) == row["label"]
        for row in rows
    )
    return round(right / len(rows), 4)


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row["label"] for row in rows).items()))
