"""Builds the preference pairs of DPO: a real function before a mutant of it, and requests.

Both answers of a pair fit the prompt word for word but for one slip, so neither length nor style
tells which is real; where a length difference remains, the report states what a rule that looks at
nothing else would score. A mutant never touches the signature, because the prompt shows it.
"""

import logging
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.config.chat import PairParameters
from curricle.errors import DataError
from curricle.languages.mutation import Mutant, apply, sample
from curricle.languages.python_operators import PYTHON_OPERATORS
from curricle.pipelines.corpus.documents import is_chosen
from curricle.pipelines.dpo.external import read_pairs
from curricle.pipelines.sft.chat import REQUEST_SOURCE, REQUESTS_NAME, documented_functions
from curricle.pipelines.sft.conversations import Messages, body_prompt, reply
from curricle.pipelines.sft.functions import Function
from curricle.pipelines.sft.requests import Request, all_requests
from curricle.pipelines.sft.rows import Row, read_rows, write_rows

logger = logging.getLogger(__name__)

MUTANTS_PER_OPERATOR = 2
COMPLIANCE, REFUSAL = "compliance", "refusal"


def build_pairs(
    folder: Path, documents: Path, chat: Path, parameters: PairParameters
) -> dict[str, Any]:
    """Write `train.jsonl`, `heldout.jsonl` and `requests_heldout.jsonl` into `folder`.

    Rows of the first two: `{"prompt", "chosen", "rejected"}` as lists of messages, `"operator"`
    (the mutation operator; of a request what is rejected, "compliance" or "refusal"; or
    "external") and `"source"`. Held-out pairs are functions of held-out files; requests are in the
    training pairs alone, and are measured by rates.

    Args:
        folder: Where the files go; it exists.
        documents: A folder of `train.jsonl` and `heldout.jsonl`, split by file.
        chat: What `build_chat` wrote: its training requests become pairs, its held-out ones are
            passed on.
        parameters: What to make, and how much of it.

    Returns:
        The report: pairs per operator and split, their shares, and the lengths (characters).

    Raises:
        DataError: Documents, chat or the external dataset cannot be used, or give no pair.
    """
    if parameters.dataset is None:
        train, heldout, report = _from_functions(documents, parameters)
    else:
        train, heldout, report = _from_dataset(Path(parameters.dataset).expanduser(), parameters)
    report["length"] = {"train": _lengths(train), "heldout": _lengths(heldout)}
    report["largest_operator_share"] = {"train": _largest(train), "heldout": _largest(heldout)}
    train += _request_pairs(chat, len(train), parameters)
    draw = random.Random(f"pairs:{parameters.seed}")
    draw.shuffle(train)
    draw.shuffle(heldout)
    write_rows(folder / "train.jsonl", train)
    write_rows(folder / "heldout.jsonl", heldout)
    _pass_on_requests(chat, folder)
    report |= {"train": _counts(train), "heldout": _counts(heldout)}
    logger.info("pairs: train %s, heldout %s", report["train"], report["heldout"])
    return report


@dataclass(frozen=True)
class _Candidate:
    """A function with the mutants that may stand against it, by operator."""

    function: Function
    mutants: dict[str, tuple[Mutant, ...]]


def _from_functions(
    documents: Path, parameters: PairParameters
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    train, heldout, dropped = documented_functions(documents, parameters)
    splits = []
    limits = (parameters.max_train_pairs, parameters.max_heldout_pairs)
    for name, functions, limit in zip(("train", "heldout"), (train, heldout), limits, strict=True):
        pairs = _mutant_pairs(functions, limit, parameters)
        if not pairs:
            raise DataError(
                f"{documents / name}.jsonl: none of {len(functions)} functions has a mutant. Raise "
                "max_body_lines, or add code to the corpus."
            )
        splits.append(pairs)
    report = {
        "functions": {"train": len(train), "heldout": len(heldout)},
        "copies_of_heldout_dropped": dropped,
    }
    return splits[0], splits[1], report


def _mutant_pairs(functions: list[Function], limit: int, parameters: PairParameters) -> list[Row]:
    """At most `limit` pairs, operators balanced: each function takes the rarest it can have.

    Functions with the least choice go first, so that those with more can even out.
    """
    draw = random.Random(f"mutants:{parameters.seed}")
    drawn = draw.sample(functions, min(limit, len(functions)))
    candidates = [_candidate(function, parameters.seed) for function in drawn]
    candidates.sort(key=lambda candidate: len(candidate.mutants))
    taken: Counter[str] = Counter()
    rows: list[Row] = []
    for candidate in candidates:
        rarest = sorted(candidate.mutants, key=lambda name: (taken[name], name))
        for operator in rarest[: parameters.mutants_per_function]:
            taken[operator] += 1
            mutant = draw.choice(candidate.mutants[operator])
            rows.append(_mutant_pair(candidate.function, mutant))
    draw.shuffle(rows)
    return _without_excess(rows, parameters.max_operator_share)[:limit]


def _candidate(function: Function, seed: int) -> _Candidate:
    mutants: dict[str, list[Mutant]] = defaultdict(list)
    body_start = len(function.signature.encode("utf-8"))
    for mutant in sample(function.source, PYTHON_OPERATORS, seed, MUTANTS_PER_OPERATOR):
        if mutant.start_byte >= body_start:
            mutants[mutant.operator].append(mutant)
    return _Candidate(function, {name: tuple(found) for name, found in mutants.items()})


def _mutant_pair(function: Function, mutant: Mutant) -> Row:
    return {
        "prompt": body_prompt(function),
        "chosen": [reply(function.source)],
        "rejected": [reply(apply(function.source, mutant))],
        "operator": mutant.operator,
        "source": function.path,
    }


def _without_excess(rows: list[Row], share: float) -> list[Row]:
    """Drop pairs of too frequent operators, last ones first; none when too few operators exist."""
    counts = Counter(row["operator"] for row in rows)
    if len(counts) * share < 1:
        return rows
    kept = dict(counts)
    while max(kept.values()) > share * sum(kept.values()):
        largest = max(sorted(kept), key=lambda name: kept[name])
        kept[largest] -= 1
    remaining = []
    for row in rows:
        if kept[row["operator"]]:
            kept[row["operator"]] -= 1
            remaining.append(row)
    return remaining


def _from_dataset(
    path: Path, parameters: PairParameters
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Pairs from elsewhere, split by their prompt."""
    splits: dict[bool, list[Row]] = {True: [], False: []}
    for pair in read_pairs(path):
        key = str([(message["role"], message.get("content")) for message in pair["prompt"]])
        is_heldout = is_chosen(key, parameters.seed, parameters.heldout_share)
        splits[is_heldout].append({**pair, "operator": "external", "source": path.name})
    for is_heldout, name in ((False, "training"), (True, "held-out")):
        if not splits[is_heldout]:
            raise DataError(
                f"{path}: no {name} pair. Add pairs, or change heldout_share "
                f"(now {parameters.heldout_share})."
            )
    return splits[False], splits[True], {}


def _request_pairs(chat: Path, others: int, parameters: PairParameters) -> list[Row]:
    """Requests of the chat's training rows, as many as make up `refusal_share`."""
    wanted = round(others * parameters.refusal_share / (1 - parameters.refusal_share))
    unsafe = round(wanted * parameters.unsafe_share)
    found: dict[bool, list[Request]] = {True: [], False: []}
    for number, row in read_rows(chat / "train.jsonl"):
        source = str(row.get("source", ""))
        if not source.startswith(REQUEST_SOURCE):
            continue
        request = all_requests().get(source.removeprefix(REQUEST_SOURCE))
        if request is None:
            raise DataError(
                f"{chat / 'train.jsonl'}: row {number}: {source!r} is no request any more. "
                "Build the chat data again."
            )
        found[request.unsafe].append(request)
    return [
        {
            "prompt": [{"role": "user", "content": request.prompt}],
            "chosen": [reply(request.reply)],
            "rejected": [reply(request.rejected)],
            "operator": COMPLIANCE if request.unsafe else REFUSAL,
            "source": REQUEST_SOURCE + request.id,
        }
        for side, limit in ((found[True], unsafe), (found[False], wanted - unsafe))
        for request in side[:limit]
    ]


def _pass_on_requests(chat: Path, folder: Path) -> None:
    requests = chat / REQUESTS_NAME
    if not requests.is_file():
        raise DataError(f"{requests}: no such file. Build the chat data again.")
    shutil.copyfile(requests, folder / REQUESTS_NAME)


def _lengths(rows: Sequence[Row]) -> dict[str, float]:
    """How far length gives the chosen answer away, in characters and as a rule's accuracy."""
    differences = [_chars(row["chosen"]) - _chars(row["rejected"]) for row in rows]
    longer = sum(difference > 0 for difference in differences)
    equal = sum(difference == 0 for difference in differences)
    return {
        "mean_chosen_minus_rejected_chars": round(sum(differences) / len(rows), 2),
        "prefer_the_longer_accuracy": round((longer + equal / 2) / len(rows), 3),
    }


def _chars(messages: Messages) -> int:
    return sum(len(message.get("content", "")) for message in messages)


def _largest(rows: Sequence[Row]) -> float:
    return round(max(Counter(row["operator"] for row in rows).values()) / len(rows), 3)


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row["operator"] for row in rows).items()))
