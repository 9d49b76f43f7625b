"""Builds the conversations of SFT: functions of real files, and requests beside them.

Held-out conversations come from held-out files. Requests are not among them: their few wordings
would raise the token accuracy that is measured there; they are measured by rates, on
`requests_heldout.jsonl`.
"""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from curricle.config.chat import ChatParameters, DocumentedParameters
from curricle.errors import DataError
from curricle.pipelines.corpus.documents import is_chosen
from curricle.pipelines.sft.conversations import TASKS, reply
from curricle.pipelines.sft.functions import Function, functions, without_copies
from curricle.pipelines.sft.messages import read_messages
from curricle.pipelines.sft.requests import RequestSplit, split_requests
from curricle.pipelines.sft.rows import Row, write_rows

logger = logging.getLogger(__name__)

MIN_DOCSTRING_CHARS = 10
REQUESTS_NAME = "requests_heldout.jsonl"
REQUEST_SOURCE = "requests.yml:"
"""The source of a request's row is this and the request's id."""


def build_chat(folder: Path, documents: Path, parameters: ChatParameters) -> dict[str, Any]:
    """Write `train.jsonl`, `heldout.jsonl` and `requests_heldout.jsonl` into `folder`.

    Rows of the first two: `{"messages", "task", "source"}`, in random order, where the task is
    body, explanation, completion, refusal, safe_request or external; a row of plain text has
    `text` for `messages` and the task text. Rows of the last:
    `{"prompt", "unsafe", "id"}`.

    Args:
        folder: Where the files go; it exists.
        documents: A folder of `train.jsonl` and `heldout.jsonl`, split by file.
        parameters: What to make, and how much of it.

    Returns:
        The report: rows per task and split, functions, copies left out, requests.

    Raises:
        DataError: Documents or the external dataset cannot be used, or hold no example.
    """
    if parameters.dataset is None:
        train, heldout, report = _from_functions(documents, parameters)
    else:
        train, heldout, report = _from_dataset(Path(parameters.dataset).expanduser(), parameters)
    requests = split_requests(parameters.seed)
    train += _request_rows(requests, len(train), parameters.refusal_share)
    draw = random.Random(f"chat:{parameters.seed}")
    draw.shuffle(train)
    draw.shuffle(heldout)
    write_rows(folder / "train.jsonl", train)
    write_rows(folder / "heldout.jsonl", heldout)
    write_rows(
        folder / REQUESTS_NAME,
        ({"prompt": r.prompt, "unsafe": r.unsafe, "id": r.id} for r in requests.heldout),
    )
    report |= {
        "train": _counts(train),
        "heldout": _counts(heldout),
        "requests_heldout": dict(
            sorted(Counter("unsafe" if r.unsafe else "safe" for r in requests.heldout).items())
        ),
    }
    logger.info("chat: train %s, heldout %s", report["train"], report["heldout"])
    return report


def documented_functions(
    documents: Path, parameters: DocumentedParameters
) -> tuple[list[Function], list[Function], int]:
    """Functions that can be asked for by their documentation, of both splits.

    Returns:
        Training functions, held-out functions, and how many training functions were dropped
        because a held-out file holds the same body.

    Raises:
        DataError: A split has none.
    """
    found = {}
    for split in ("train", "heldout"):
        path = documents / f"{split}.jsonl"
        found[split] = [
            function
            for function in functions(
                path,
                max_chars=parameters.max_function_chars,
                min_lines=parameters.min_body_lines,
                max_lines=parameters.max_body_lines,
            )
            if _speaks(function.docstring, parameters.max_docstring_chars)
        ]
        if not found[split]:
            raise DataError(
                f"{path}: no documented function of {parameters.min_body_lines} to "
                f"{parameters.max_body_lines} lines and at most {parameters.max_function_chars} "
                "characters. Widen these limits, or add code with docstrings to the corpus."
            )
    train, dropped = without_copies(found["train"], found["heldout"])
    return train, found["heldout"], dropped


def _speaks(docstring: str, max_chars: int) -> bool:
    return MIN_DOCSTRING_CHARS <= len(docstring) <= max_chars and " " in docstring


def _from_functions(
    documents: Path, parameters: ChatParameters
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    train, heldout, dropped = documented_functions(documents, parameters)
    report = {
        "functions": {"train": len(train), "heldout": len(heldout)},
        "copies_of_heldout_dropped": dropped,
    }
    return (
        _function_rows(train, parameters.max_train_examples, parameters.seed),
        _function_rows(heldout, parameters.max_heldout_examples, parameters.seed),
        report,
    )


def _function_rows(functions: Sequence[Function], limit: int, seed: int) -> list[Row]:
    """At most `limit` conversations of each task; each task draws its own functions."""
    rows = []
    for task, conversation in TASKS.items():
        draw = random.Random(f"{task}:{seed}")
        for function in draw.sample(functions, min(limit, len(functions))):
            rows.append({"messages": conversation(function), "task": task, "source": function.path})
    return rows


def _from_dataset(
    path: Path, parameters: ChatParameters
) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Conversations from elsewhere, split by their first question, repeats left out."""
    splits: dict[bool, list[Row]] = {True: [], False: []}
    seen: set[str] = set()
    repeated = 0
    for row in read_messages(path):
        messages = row.get("messages")
        content = str(messages) if messages else row["text"]
        if content in seen:
            repeated += 1
            continue
        seen.add(content)
        asked = next(m["content"] for m in messages if m["role"] == "user") if messages else content
        kept = {"messages": messages, "task": "external"} if messages else {
            "text": content, "task": "text",
        }  # fmt: skip
        is_heldout = is_chosen(asked, parameters.seed, parameters.heldout_share)
        splits[is_heldout].append({**kept, "source": path.name})
    for is_heldout, name in ((False, "training"), (True, "held-out")):
        if not splits[is_heldout]:
            raise DataError(
                f"{path}: no {name} conversation among {len(seen)}. Add conversations, or change "
                f"heldout_share (now {parameters.heldout_share})."
            )
    report = {"repeated_dropped": repeated}
    return splits[False], splits[True], report


def _request_rows(requests: RequestSplit, others: int, share: float) -> list[Row]:
    """As many requests as make up `share` of the rows together with `others`, half unsafe."""
    wanted = round(others * share / (1 - share))
    rows = []
    for unsafe, task in ((True, "refusal"), (False, "safe_request")):
        side = [request for request in requests.train if request.unsafe == unsafe]
        for request in side[: wanted // 2]:
            rows.append(
                {
                    "messages": [{"role": "user", "content": request.prompt}, reply(request.reply)],
                    "task": task,
                    "source": REQUEST_SOURCE + request.id,
                }
            )
    return rows


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    return dict(sorted(Counter(row["task"] for row in rows).items()))
