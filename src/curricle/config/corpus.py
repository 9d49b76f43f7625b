"""Parameters of the corpus pipeline.

Each model belongs to one builder. What is wrong here is said while the parameters are read, before
a single document is.
"""

import itertools
import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curricle.errors import ConfigError

# Byte-level BPE cannot be smaller: 256 bytes and the four special tokens.
SMALLEST_VOCABULARY = 260

TEXT_PATTERNS = (
    "**/*.py",
    "**/*.md",
    "**/*.txt",
    "**/*.rst",
    "**/*.rs",
    "**/*.go",
    "**/*.ts",
    "**/*.tsx",
    "**/*.js",
    "**/*.jsx",
    "**/*.c",
    "**/*.h",
    "**/*.cpp",
    "**/*.java",
    "**/*.toml",
    "**/*.jsonl",
    "**/*.parquet",
)


class _Parameters(BaseModel):
    """Frozen and closed: an unknown key is a typo, not a wish."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceParameters(_Parameters):
    """Where documents come from; a `folder` and a `hub` source need a `path`."""

    kind: Literal["python_distribution", "folder", "hub"]
    """This Python's own library; a local folder of files; a Hugging Face dataset."""
    path: str | None = None
    """A folder, a dataset on a hub, or a dataset saved on disk."""
    patterns: tuple[str, ...] = TEXT_PATTERNS
    """Globs below `path` of a `folder`; .jsonl and .parquet hold one document a row."""
    text_field: str = "text"
    """The field or column of a row that holds its text."""
    input_ids_field: str | None = None
    """Instead of text: the column of token ids of a `hub` source that is already tokenized."""
    group_field: str | None = None
    """Rows that share this field's value stay on one side of the split (a repository, a book)."""
    row_kind: Literal["code", "prose"] = "prose"
    """What rows are, and so which filters they meet; files are known by their suffix."""
    name: str | None = None
    """The configuration of a `hub` dataset that has several."""
    split: str = "train"
    """The split of a `hub` dataset."""
    revision: str | None = None
    """The commit of a dataset that is fetched from a hub."""
    max_documents: int | None = Field(default=None, ge=1)
    """Stop before this many documents are exceeded."""
    max_bytes: int | None = Field(default=None, ge=1)
    """Stop before this many bytes of UTF-8 are exceeded."""
    include_tests: bool = False
    """Whether `python_distribution` takes the library's tests too (twice the size)."""

    @property
    def is_local(self) -> bool:
        """Whether `path` is a place on this machine."""
        path = self.path or ""
        return path.startswith((".", "/", "~")) or (bool(path) and Path(path).exists())

    @model_validator(mode="after")
    def _check(self) -> "SourceParameters":
        if self.kind != "python_distribution" and not self.path:
            raise ConfigError(f"corpus source of kind {self.kind!r} has no `path`: set it.")
        if self.kind == "hub" and not self.is_local and not self.revision:
            raise ConfigError(
                f"corpus source {self.path!r} has no `revision`: a dataset on a hub changes under "
                "its name. Set `revision` to a commit of the dataset, or make `path` a "
                "dataset on this machine."
            )
        if self.input_ids_field and self.kind != "hub":
            raise ConfigError(
                f"corpus source of kind {self.kind!r} has `input_ids_field`: only `hub` sources "
                "(a dataset on a hub or saved on disk) hold token ids."
            )
        return self


class IngestParameters(_Parameters):
    """What is read and what is held out."""

    sources: tuple[SourceParameters, ...] = Field(min_length=1)
    heldout_share: float = Field(default=0.03, gt=0, lt=1)
    """Share of files (rows, for JSONL, Parquet and hub datasets) that no training sees."""
    heldout_max_documents: int | None = Field(default=2000, ge=1)
    """At most this many held-out documents; the files with the lowest hashes stay."""
    seed: int = 0
    """Decides the split and, where a cap cuts a source short, the sample."""


class CleanParameters(_Parameters):
    """Thresholds of the filters, near-duplicates and decontamination."""

    min_characters: int = Field(default=64, ge=1)
    """Shorter documents teach nothing but where documents end."""
    max_line_characters: int = Field(default=1000, ge=1)
    """Code with a longer line is data or generated."""
    max_mean_line_characters: float = Field(default=100.0, gt=0)
    """Code whose lines are longer on average is minified or a table."""
    min_alphanumeric_share: float = Field(default=0.25, ge=0, le=1)
    """Code with a smaller share of letters and digits is art, a table or encoded."""
    max_hex_literal_share: float = Field(default=0.25, ge=0, le=1)
    """Code with a larger share of characters in escapes and hexadecimal numbers is a table."""
    max_duplicate_line_share: float = Field(default=0.30, gt=0, le=1)
    """Prose with more repeated lines or paragraphs is a list (Gopher, table A1)."""
    max_duplicate_ngram_share: float = Field(default=0.20, gt=0, le=1)
    """Prose with more characters in repeated runs of 10 words is boilerplate (Gopher: 0.10)."""
    n_grams: int = Field(default=5, ge=1)
    """Words in a shingle of the near-duplicate signature."""
    num_buckets: int = Field(default=14, ge=1)
    """Bands of the near-duplicate signature; more find less similar pairs."""
    hashes_per_bucket: int = Field(default=8, ge=1)
    """Hashes in a band; similarity 0.72 is the even chance at 14 x 8."""
    decontamination_ngram: int = Field(default=13, ge=1)
    """Words in an n-gram that train and held-out documents may share only by accident."""
    max_overlap: float = Field(default=0.1, ge=0, lt=1)
    """A document goes when a larger share of its n-grams is on the other side."""
    seed: int = 1
    """Decides the hash functions of the near-duplicate signature."""


class TokenizerParameters(_Parameters):
    """The byte-level BPE tokenizer."""

    vocab_size: int = Field(ge=SMALLEST_VOCABULARY)
    """Exactly this many tokens, special ones included."""
    sample_max_bytes: int = Field(default=50_000_000, ge=1)
    """At most this much text is learned from, spread over the whole corpus."""
    seed: int = 0
    """Decides which documents are in the sample."""


class ContextStage(_Parameters):
    """One context length and the share of the corpus that is read at it."""

    seq_length: int = Field(ge=2)
    """Tokens in a row."""
    share: float = Field(gt=0, le=1)
    """Share of the training tokens."""


class ExternalArrays(_Parameters):
    """Rows of token ids that were made elsewhere: .npy files of shape (rows, seq_length)."""

    train: tuple[str, ...] = Field(min_length=1)
    """One array for each context length."""
    heldout: str
    """Rows that no training sees, of the longest context."""


class PackParameters(_Parameters):
    """The context curriculum: lengths grow, shares sum to 1."""

    curriculum: tuple[ContextStage, ...] = Field(min_length=1)
    tokenized: IngestParameters | None = None
    """Instead of the corpus: datasets of token ids (`hub` sources with `input_ids_field`)."""
    arrays: ExternalArrays | None = None
    """Instead of the corpus: packed arrays, whose lengths are then the curriculum."""
    seed: int = 0
    """Decides which documents meet which length, and the order of rows."""
    window_tokens: int = Field(default=1_000_000, ge=1)
    """Documents are encoded, shared out and packed this many tokens at a time: memory, not result
    quality, asks for less."""

    @model_validator(mode="after")
    def _check(self) -> "PackParameters":
        lengths = [stage.seq_length for stage in self.curriculum]
        if any(after <= before for before, after in itertools.pairwise(lengths)):
            raise ConfigError(
                f"pack.curriculum: seq_length must grow from stage to stage, but is {lengths}. "
                "Order the stages by length and give each length once."
            )
        shares = [stage.share for stage in self.curriculum]
        if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
            raise ConfigError(
                f"pack.curriculum: share must sum to 1, but {shares} sum to {sum(shares):g}. "
                "Correct the shares."
            )
        return self

    @property
    def longest(self) -> int:
        """The last and longest context length, in tokens; held-out rows have it."""
        return self.curriculum[-1].seq_length
