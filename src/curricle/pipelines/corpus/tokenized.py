"""Datasets that hold token ids instead of text, for the same packer."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from curricle.config.corpus import IngestParameters
from curricle.errors import ConfigError, DataError
from curricle.pipelines.corpus.documents import is_chosen
from curricle.pipelines.corpus.hub import open_rows
from curricle.pipelines.corpus.readers import row_key


class TokenizedRows:
    """Streams the rows of one side of the split, each ended by the end-of-text token.

    Args:
        parameters: `hub` sources with `input_ids_field`, the held-out share and cap.
        vocab_size: ids are below it.
        eos_id: the end-of-text token.

    Raises:
        ConfigError: a source has no `input_ids_field`.
        DataError: a dataset cannot be opened or lacks the column.
    """

    def __init__(self, parameters: IngestParameters, vocab_size: int, eos_id: int) -> None:
        self._parameters = parameters
        self._vocab_size = vocab_size
        self._eos_id = eos_id
        for source in parameters.sources:
            if not source.input_ids_field:
                raise ConfigError(
                    f"corpus source {source.path or source.kind}: no `input_ids_field`. Name the "
                    "column of token ids, or let text take the way over ingest and clean."
                )
            open_rows(source, source.input_ids_field)

    def read(self, side: Literal["train", "heldout"]) -> Iterator[npt.NDArray[np.int32]]:
        """Yield the documents of a side as token ids, shape (tokens,) each.

        Raises:
            DataError: a row holds no ids, or ids outside the vocabulary; names the row.
        """
        limits = self._parameters
        heldout = 0
        for place, source in enumerate(limits.sources):
            column = source.input_ids_field or ""
            rows = open_rows(source, column)
            for number, row in enumerate(rows, start=1):
                if source.max_documents is not None and number > source.max_documents:
                    break
                key = row_key(row, source, f"{place}:{source.split}#{number}")
                is_heldout = is_chosen(key, limits.seed, limits.heldout_share) and (
                    limits.heldout_max_documents is None or heldout < limits.heldout_max_documents
                )
                heldout += is_heldout
                tokens = self._tokens(row[column], f"dataset {source.path}: row {number}")
                if is_heldout == (side == "heldout"):
                    yield tokens

    def _tokens(self, ids: object, where: str) -> npt.NDArray[np.int32]:
        tokens = np.asarray(ids)
        if tokens.ndim != 1 or not len(tokens) or not np.issubdtype(tokens.dtype, np.integer):
            raise DataError(f"{where} holds no list of token ids. Correct or remove the row.")
        if tokens.min() < 0 or tokens.max() >= self._vocab_size:
            raise DataError(
                f"{where} holds a token outside the vocabulary of {self._vocab_size}: ids from "
                f"{tokens.min()} to {tokens.max()}. Name the tokenizer that made the dataset."
            )
        if tokens[-1] != self._eos_id:
            tokens = np.append(tokens, self._eos_id)
        return tokens.astype(np.int32)
