"""Ingest: every source to two files, one to learn from and one that no training sees.

The split is decided by file (by row where a file is a table), never by document: what a source file
says and what its docstrings say must be on the same side, or the held-out loss measures memory.
"""

import heapq
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from curricle.config.corpus import IngestParameters, SourceParameters
from curricle.errors import ConfigError, DataError
from curricle.pipelines.corpus import hub, python_distribution, readers
from curricle.pipelines.corpus.documents import Document, seeded_hash, text_bytes, to_line

logger = logging.getLogger(__name__)

_HASH_RANGE = 1 << 64


def ingest(folder: Path, parameters: IngestParameters) -> dict[str, Any]:
    """Stream all sources to `folder/train.jsonl` and `folder/heldout.jsonl`.

    Args:
        folder: where the two files go; exists.
        parameters: sources, held-out share and cap, seed.

    Returns:
        Counts of documents and bytes (UTF-8 text) for each side and source, files skipped, and the
        effective held-out share of bytes.

    Raises:
        ConfigError: a source holds token ids, not text.
        DataError: a source that cannot be read, or a side that stays empty; names file and row.
    """
    labels = _labels(parameters.sources)
    for source in parameters.sources:
        _check(source)
    totals = {side: {"documents": 0, "bytes": 0} for side in ("train", "heldout")}
    by_source = {label: {"documents": 0, "bytes": 0} for label in labels}
    skipped: Counter[str] = Counter()
    candidates = folder / "candidates.jsonl"
    split = _Split(parameters)
    with (
        (folder / "train.jsonl").open("wb") as train,
        (folder / "heldout.jsonl").open("wb") as heldout,
        tqdm(unit="B", unit_scale=True, desc="ingest", disable=None) as progress,
    ):
        # How low a held-out cap pushes the threshold is known only at the end, so what may be
        # held out waits in a file of its own: memory stays flat however large the corpus is.
        with candidates.open("wb") as waiting:
            for source, label in zip(parameters.sources, labels, strict=True):
                for key, documents in _groups(source, label, parameters.seed, skipped):
                    value = seeded_hash(key, parameters.seed)
                    chosen = split.offer(value, len(documents))
                    for document in documents:
                        size = text_bytes(document["text"])
                        _count(by_source[label], size)
                        progress.update(size)
                        if chosen:
                            waiting.write(to_line(document | {"hash": str(value)}))
                        else:
                            train.write(to_line(document))
                            _count(totals["train"], size)
        with candidates.open("rb") as lines:
            for line in lines:
                document = json.loads(line)
                side = "heldout" if int(document.pop("hash")) < split.threshold else "train"
                (heldout if side == "heldout" else train).write(to_line(document))
                _count(totals[side], text_bytes(document["text"]))
    candidates.unlink()
    for label, count in by_source.items():
        if not count["documents"]:
            raise DataError(f"corpus source {label}: no documents. Correct or remove the source.")
    for side, count in totals.items():
        if not count["documents"]:
            raise DataError(
                f"corpus: the {side} side is empty at heldout_share {parameters.heldout_share} of "
                f"{sum(count['documents'] for count in totals.values())} documents. Add documents "
                f"or {'raise' if side == 'heldout' else 'lower'} `heldout_share` "
                "(and `heldout_max_documents`)."
            )
    size = totals["train"]["bytes"] + totals["heldout"]["bytes"]
    report = totals | {
        "sources": by_source,
        "skipped": dict(sorted(skipped.items())),
        "heldout_byte_share": totals["heldout"]["bytes"] / size,
    }
    logger.info("ingest: %s", report)
    return report


class _Split:
    """Keeps the hash below which a file is held out, falling as the cap fills."""

    def __init__(self, parameters: IngestParameters) -> None:
        self.threshold = int(parameters.heldout_share * _HASH_RANGE)
        self._capacity = parameters.heldout_max_documents
        self._held: list[tuple[int, int]] = []  # a heap of (-hash, documents)
        self._documents = 0

    def offer(self, value: int, documents: int) -> bool:
        """Whether a file with hash `value` may still be held out."""
        if value >= self.threshold:
            return False
        if self._capacity is not None:
            heapq.heappush(self._held, (-value, documents))
            self._documents += documents
            while self._documents > self._capacity:
                self.threshold = -self._held[0][0]
                # All that share the hash leave together: they are one file or one group.
                while self._held and -self._held[0][0] >= self.threshold:
                    self._documents -= heapq.heappop(self._held)[1]
        return value < self.threshold


def _count(total: dict[str, int], size: int) -> None:
    total["documents"] += 1
    total["bytes"] += size


def _labels(sources: tuple[SourceParameters, ...]) -> list[str]:
    """A name for each source that does not depend on where a folder lies on this machine."""
    seen: Counter[str] = Counter()
    labels = []
    for source in sources:
        path = source.path or source.kind
        label = Path(path).expanduser().resolve().name if source.is_local else path
        seen[label] += 1
        labels.append(label if seen[label] == 1 else f"{label}-{seen[label]}")
    return labels


def _check(source: SourceParameters) -> None:
    if source.input_ids_field:
        raise ConfigError(
            f"corpus source {source.path}: `input_ids_field` names token ids, which have no text "
            "to clean. Use `text_field` here; tokenized datasets go to `pack_input_ids`."
        )
    if source.kind == "folder":
        readers.check_folder(source)
    elif source.kind == "hub":
        hub.open_rows(source, source.text_field)


def _groups(
    source: SourceParameters, label: str, seed: int, skipped: Counter[str]
) -> Iterator[tuple[str, list[Document]]]:
    """(split key, documents of one file) until the source's caps would be exceeded."""
    groups: Iterator[tuple[str, list[Document]]]
    if source.kind == "python_distribution":
        groups = (
            (documents[0]["path"], documents)
            for documents in python_distribution.python_groups(seed, source.include_tests, skipped)
            if documents
        )
    elif source.kind == "folder":
        groups = readers.folder_groups(source, label, seed, skipped)
    else:
        groups = hub.hub_groups(source, label)
    count = size = 0
    for key, documents in groups:
        count += len(documents)
        size += sum(text_bytes(document["text"]) for document in documents)
        if count > (source.max_documents or count) or size > (source.max_bytes or size):
            return
        yield key, documents
