"""Clean: filters, exact and near duplicates, and nothing held out that was also learned from.

Every step streams: what a step must know of all documents at once is a hash of 8 bytes a document
(exact duplicates), a signature on disk (near-duplicates), or the n-grams of the held-out side alone
(decontamination), which `heldout_max_documents` bounds.
"""

import logging
import shutil
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from curricle.config.corpus import CleanParameters
from curricle.errors import DataError
from curricle.pipelines.corpus.documents import (
    Document,
    read_documents,
    seeded_hash,
    text_bytes,
    write_documents,
)
from curricle.pipelines.corpus.ngrams import NgramIndex, ngram_hashes

if TYPE_CHECKING:
    from datatrove.data import Document as Record

logger = logging.getLogger(__name__)

SIDES = ("heldout", "train")  # in this order, so that a held-out document wins over its copy


def clean(
    folder: Path,
    documents: Path,
    parameters: CleanParameters,
    other_heldout: Sequence[Path] = (),
) -> dict[str, Any]:
    """Clean both sides of the split into `folder/train.jsonl` and `folder/heldout.jsonl`.

    Args:
        folder: where the two files go; exists. `folder/work` is used and removed.
        documents: the folder that `ingest` wrote.
        parameters: thresholds.
        other_heldout: files of documents that other stages are measured by; training documents
            that are largely in them go too.

    Returns:
        For each side: documents and bytes in and out, and for each reason what it dropped.

    Raises:
        DataError: an input is missing or broken, or nothing of a side is left.
    """
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    inputs = {side: documents / f"{side}.jsonl" for side in SIDES}
    for path in (*inputs.values(), *other_heldout):
        next(read_documents(path), None)
    report: dict[str, Any] = {}
    hashes = array("Q")
    counts = []
    for side in SIDES:
        before = len(hashes)
        report[side] = _filter(inputs[side], work / f"{side}.filtered.jsonl", hashes, parameters)
        counts.append(len(hashes) - before)
    keep = np.split(_first_of_each(np.frombuffer(hashes, dtype=np.uint64)), [counts[0]])
    for side, first in zip(SIDES, keep, strict=True):
        _deduplicate(side, first, work, report[side], parameters)
    _decontaminate(folder, other_heldout, report, parameters)
    shutil.rmtree(work)
    for side in SIDES:
        if not report[side]["documents_out"]:
            raise DataError(
                f"{inputs[side]}: cleaning left nothing: {report[side]}. Relax the thresholds of "
                f"`clean`{' or raise `heldout_share`' if side == 'heldout' else ''}."
            )
    logger.info("clean: %s", report)
    return report


def _filter(
    source: Path, target: Path, hashes: "array[int]", parameters: CleanParameters
) -> dict[str, Any]:
    """Write what passes the filters; append a hash of each text that does."""
    from curricle.pipelines.corpus import steps

    totals = {"documents_in": 0, "bytes_in": 0}

    def records() -> Iterator["Record"]:
        documents = read_documents(source)
        for document in tqdm(documents, desc=f"filter {source.stem}", disable=None):
            totals["documents_in"] += 1
            totals["bytes_in"] += text_bytes(document["text"])
            yield _record(document)

    def hashed(stream: Iterator["Record"]) -> Iterator[Document]:
        for record in stream:
            hashes.append(seeded_hash(record.text, 0))
            yield _document(record)

    stream = records()
    chain = steps.filters(parameters)
    with steps.quiet_datatrove():
        for step in chain:
            stream = step.run(stream)
        count, size = write_documents(target, hashed(stream))
    reasons: Counter[str] = Counter()
    for step in chain:
        reasons.update(steps.dropped(step))
    return totals | {
        "dropped": dict(sorted(reasons.items())),
        "documents_filtered": count,
        "bytes_filtered": size,
    }


def _first_of_each(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which entries are the first with their value; shape as `hashes`."""
    first = np.zeros(len(hashes), dtype=bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first


def _deduplicate(
    side: str,
    first: npt.NDArray[np.bool_],
    work: Path,
    report: dict[str, Any],
    parameters: CleanParameters,
) -> None:
    """Write `work/<side>.unique.jsonl`, without exact and near duplicates."""
    from curricle.pipelines.corpus import steps

    filtered = work / f"{side}.filtered.jsonl"

    def unique() -> Iterator["Record"]:
        documents = tqdm(read_documents(filtered), desc=f"deduplicate {side}", disable=None)
        for document, is_first in zip(documents, first, strict=True):
            if is_first:
                yield _record(document)

    kept = int(first.sum())
    report["dropped"]["exact_duplicate"] = len(first) - kept
    stream = steps.without_near_duplicates(unique, work / side, parameters) if kept else iter(())
    count, _ = write_documents(work / f"{side}.unique.jsonl", map(_document, stream))
    report["dropped"]["near_duplicate"] = kept - count
    filtered.unlink()


def _decontaminate(
    folder: Path,
    other_heldout: Sequence[Path],
    report: dict[str, Any],
    parameters: CleanParameters,
) -> None:
    """Write the result: no document of either side that is largely on the other.

    A train document that is mostly held-out text goes. What then still covers much of a held-out
    document, a paragraph in a large train file for instance, makes that document worthless as a
    measure: it goes too.
    """
    n, limit = parameters.decontamination_ngram, parameters.max_overlap
    heldout, train = (folder / "work" / f"{side}.unique.jsonl" for side in SIDES)
    parts = [
        ngram_hashes(document["text"], n)
        for path in (heldout, *other_heldout)
        for document in read_documents(path)
    ]
    index = NgramIndex(np.concatenate([np.empty(0, np.uint64), *parts]), n)
    del parts
    lost = Counter[str]()

    def clean_train() -> Iterator[Document]:
        for document in tqdm(read_documents(train), desc="decontaminate", disable=None):
            places = index.find(document["text"])
            if index.share(places) > limit:
                lost["train"] += 1
            else:
                index.mark(places)
                yield document

    def clean_heldout() -> Iterator[Document]:
        for document in read_documents(heldout):
            if index.marked_share(index.find(document["text"])) > limit:
                lost["heldout"] += 1
            else:
                yield document

    for side, stream in (("train", clean_train()), ("heldout", clean_heldout())):
        count, size = write_documents(folder / f"{side}.jsonl", stream)
        report[side]["dropped"]["contaminated"] = lost[side]
        report[side] |= {"documents_out": count, "bytes_out": size}
    report["heldout_ngrams"] = len(index.hashes)
    report["heldout_ngrams_in_train"] = int(index.marked.sum())


def _record(document: Document) -> "Record":
    from datatrove.data import Document as Record

    rest = {key: document[key] for key in ("kind", "path", "source")}
    return Record(text=document["text"], id=document["id"], metadata=rest)


def _document(record: "Record") -> Document:
    rest = {key: record.metadata[key] for key in ("kind", "path", "source")}
    return {"id": record.id, "text": record.text, **rest}
