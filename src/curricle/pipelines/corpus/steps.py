"""datatrove's steps of cleaning: filters for code and prose, and near-duplicates.

Imports datatrove at the top, so `cleaning` imports this module only when it cleans. datatrove's own
steps are used as they are; what is replaced is how text becomes words (its tokenizers for that need
spaCy or nltk) and how words become hashes (see `ngrams`).
"""

import contextlib
import io
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.filters import GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.utils.word_tokenizers import WordTokenizer

from curricle.config.corpus import CleanParameters
from curricle.pipelines.corpus.ngrams import UInt64s, ngram_hashes

logger = logging.getLogger(__name__)

Stream = Callable[[], Iterator[Document]]

_ESCAPES = re.compile(r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|0x[0-9a-fA-F]+")
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
# Shingles times hashes that are alive at once: a long document must not decide the memory.
_SIGNATURE_ROWS = 2048


class RegexWords(WordTokenizer):  # type: ignore[misc]
    """Words are runs of letters, digits and underscores; sentences are lines."""

    def word_tokenize(self, text: str) -> list[str]:
        """Split `text` into words."""
        return re.findall(r"\w+", text)

    def sent_tokenize(self, text: str) -> list[str]:
        """Split `text` into lines."""
        return text.splitlines()

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where the lines of `text` begin and end."""
        return [match.span() for match in re.finditer(r"[^\n]+", text)]


class LengthFilter(BaseFilter):  # type: ignore[misc]
    """Drops documents that are too short to learn from."""

    name = "length"

    def __init__(self, parameters: CleanParameters) -> None:
        super().__init__()
        self._min_characters = parameters.min_characters

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Keep a document that has `min_characters`."""
        return len(doc.text.strip()) >= self._min_characters or (False, "too_short")


class CodeFilter(BaseFilter):  # type: ignore[misc]
    """Drops code that nobody wrote: tables, minified and generated files."""

    name = "code quality"

    def __init__(self, parameters: CleanParameters) -> None:
        super().__init__()
        self._parameters = parameters

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Keep prose, and code within all limits."""
        if doc.metadata["kind"] != "code":
            return True
        limits, text = self._parameters, doc.text
        lines = text.splitlines() or [""]
        if max(map(len, lines)) > limits.max_line_characters:
            return False, "long_line"
        if len(text) / len(lines) > limits.max_mean_line_characters:
            return False, "long_mean_line"
        visible = len(text) - sum(map(text.count, " \t\n\r"))
        other = sum(map(len, _NOT_ALPHANUMERIC.findall(text))) - (len(text) - visible)
        if visible - other < limits.min_alphanumeric_share * visible:
            return False, "few_letters"
        escapes = sum(map(len, _ESCAPES.findall(text)))
        if escapes > limits.max_hex_literal_share * visible:
            return False, "hex_table"
        return True


class ProseFilter(GopherRepetitionFilter):  # type: ignore[misc]
    """Gopher's repetition rules, for prose alone: good code repeats itself by nature."""

    name = "prose repetition"

    def __init__(self, parameters: CleanParameters) -> None:
        share = parameters.max_duplicate_line_share
        super().__init__(
            dup_line_frac=share,
            dup_para_frac=share,
            dup_line_char_frac=share,
            dup_para_char_frac=share,
            top_n_grams=(),
            dup_n_grams=((10, parameters.max_duplicate_ngram_share),),
            language=RegexWords(),
        )

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Keep code, and prose that does not repeat itself."""
        return True if doc.metadata["kind"] != "prose" else super().filter(doc)


class Signature(MinhashDedupSignature):  # type: ignore[misc]
    """datatrove's signature step over vectorised shingles, in bounded memory."""

    def get_shingles(self, text: str) -> UInt64s:
        """Hash the n-grams of `text`; shape (n-grams, 1)."""
        return ngram_hashes(text, self.config.n_grams).reshape(-1, 1)

    def get_signature(self, shingles: UInt64s) -> list[list[int]]:
        """The smallest hashes of all shingles: one list a bucket."""
        # A minimum of minima is the minimum.
        blocks = [
            super(Signature, self).get_signature(shingles[start : start + _SIGNATURE_ROWS])
            for start in range(0, len(shingles), _SIGNATURE_ROWS)
        ]
        smallest: list[list[int]] = np.min(np.asarray(blocks, dtype=np.uint64), axis=0).tolist()
        return smallest


def filters(parameters: CleanParameters) -> list[BaseFilter]:
    """The filters in the order in which they are applied."""
    return [LengthFilter(parameters), CodeFilter(parameters), ProseFilter(parameters)]


def without_near_duplicates(
    documents: Stream, work: Path, parameters: CleanParameters
) -> Iterator[Document]:
    """Yield one document of each cluster of near-duplicates.

    Args:
        documents: opens the stream of documents; it is read twice.
        work: an empty folder for signatures.
        parameters: size of the signature.
    """
    config = MinhashConfig(
        n_grams=parameters.n_grams,
        num_buckets=parameters.num_buckets,
        hashes_per_bucket=parameters.hashes_per_bucket,
        seed=parameters.seed,
    )
    signatures, pairs, removals = (str(work / name) for name in ("sigs", "pairs", "removals"))
    with quiet_datatrove():
        Signature(signatures, config=config, language=RegexWords()).run(documents())
        for bucket in range(config.num_buckets):
            step = MinhashDedupBuckets(signatures, pairs, config=config)
            step.run(None, bucket, config.num_buckets)
        # Its progress bar cannot be turned off, and it would stand in every log.
        with contextlib.redirect_stderr(io.StringIO()):
            MinhashDedupCluster(pairs, removals, config=config).run()
    with quiet_datatrove():
        yield from MinhashDedupFilter(removals).run(documents())


@contextlib.contextmanager
def quiet_datatrove() -> Iterator[None]:
    """Silence datatrove's notes on the steps it takes; its errors are exceptions."""
    import loguru

    loguru.logger.disable("datatrove")
    try:
        yield
    finally:
        loguru.logger.enable("datatrove")


def dropped(step: Any) -> dict[str, int]:
    """Documents that a filter dropped, by reason."""
    prefix = "dropped_"
    return {
        name.removeprefix(prefix): int(stat.total)
        for name, stat in sorted(step.stats.stats.items())
        if name.startswith(prefix)
    }
