"""Pack: every document into rows of fixed length, none cut that fits, none of its tokens lost.

Padding wastes arithmetic, and cutting documents where a row ends breaks what a model could learn.
So a document that fits is never cut, longer ones are cut into consecutive pieces, and `packer` puts
the pieces together. Here documents are encoded, shared out to the context lengths, and counted.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from curricle.config.corpus import IngestParameters, PackParameters
from curricle.errors import ConfigError, DataError
from curricle.pipelines.corpus.documents import read_documents, seeded_hash
from curricle.pipelines.corpus.packed import Batch, PackedArray
from curricle.pipelines.corpus.packer import Packer, Tokens
from curricle.pipelines.corpus.rows import RowWriter
from curricle.pipelines.corpus.tokenizer import END_OF_TEXT, PAD, load_encoder

__all__ = ["Batch", "PackedArray", "pack", "pack_input_ids"]

logger = logging.getLogger(__name__)

# An encoding in memory is some hundred times its text.
_BATCH_BYTES = 250_000
_POOR_FILL = 0.9


def pack(
    folder: Path, documents: Path, tokenizer: Path, parameters: PackParameters
) -> dict[str, Any]:
    """Encode both sides and pack them: `train_<L>.npy` for each length, `heldout_<longest>.npy`.

    Every array is int64 (rows, L); beside it `<name>.segments.npy`, int32 (pieces, 3), holds sorted
    (row, start, length). Each train document meets one context length.

    Args:
        folder: where the arrays go; exists.
        documents: the folder that `clean` wrote.
        tokenizer: the folder that `train_tokenizer` wrote.
        parameters: context lengths and shares, seed, size of windows.

    Returns:
        For each array: documents, pieces, tokens, rows and fill (tokens per slot, 0 to 1).

    Raises:
        ConfigError: a context length is left without documents.
        DataError: an input is missing or broken.
    """
    encoder = load_encoder(tokenizer)
    paths = {side: documents / f"{side}.jsonl" for side in ("train", "heldout")}
    for path in paths.values():
        next(read_documents(path), None)
    ends = encoder.token_to_id(END_OF_TEXT), encoder.token_to_id(PAD)
    return _pack(
        folder,
        _encode(paths["train"], encoder, ends[0]),
        _encode(paths["heldout"], encoder, ends[0]),
        pad_id=ends[1],
        parameters=parameters,
    )


def pack_input_ids(
    folder: Path, ingest: IngestParameters, tokenizer: Path, parameters: PackParameters
) -> dict[str, Any]:
    """Pack datasets that hold token ids already; files and report as `pack` has them.

    Args:
        folder: where the arrays go; exists.
        ingest: `hub` sources with `input_ids_field`, the held-out share and cap.
        tokenizer: the folder of the tokenizer that made the ids.
        parameters: context lengths and shares, seed, size of windows.

    Raises:
        ConfigError: a source has no `input_ids_field`, or a context length no documents.
        DataError: a dataset cannot be read, or a row holds no ids of this vocabulary.
    """
    from curricle.pipelines.corpus.tokenized import TokenizedRows

    encoder = load_encoder(tokenizer)
    rows = TokenizedRows(ingest, encoder.get_vocab_size(), encoder.token_to_id(END_OF_TEXT))
    return _pack(
        folder,
        rows.read("train"),
        rows.read("heldout"),
        pad_id=encoder.token_to_id(PAD),
        parameters=parameters,
    )


def _encode(path: Path, encoder: Any, eos_id: int) -> Iterator[Tokens]:
    """The documents of a file as token ids, each with its end-of-text token."""

    def flush(texts: list[str]) -> Iterator[Tokens]:
        for encoding in encoder.encode_batch_fast(texts, add_special_tokens=False):
            yield np.array([*encoding.ids, eos_id], dtype=np.int32)

    texts: list[str] = []
    size = 0
    for document in read_documents(path):
        texts.append(document["text"])
        size += len(document["text"])
        if size >= _BATCH_BYTES:
            yield from flush(texts)
            texts, size = [], 0
    yield from flush(texts)


def _pack(
    folder: Path,
    train: Iterable[Tokens],
    heldout: Iterable[Tokens],
    *,
    pad_id: int,
    parameters: PackParameters,
) -> dict[str, Any]:
    names = [f"train_{stage.seq_length}" for stage in parameters.curriculum]
    heldout_name = f"heldout_{parameters.longest}"
    lengths = [*(stage.seq_length for stage in parameters.curriculum), parameters.longest]
    with ExitStack() as stack:
        packers = {
            name: Packer(
                stack.enter_context(RowWriter(folder / f"{name}.npy", length, pad_id)),
                parameters.window_tokens,
            )
            for name, length in zip([*names, heldout_name], lengths, strict=True)
        }
        stages = [packers[name] for name in names]
        shares = np.array([stage.share for stage in parameters.curriculum])
        for window in _windows(train, parameters):
            for tokens in window:
                # The stage that is furthest behind its share takes the document.
                taken = np.array([packer.tokens for packer in stages])
                behind = shares * (taken.sum() + len(tokens)) - taken
                stages[int(behind.argmax())].add(tokens)
        for tokens in heldout:
            packers[heldout_name].add(tokens)
        report = {}
        for name, packer in packers.items():
            if not packer.documents:
                raise _nothing_for(name)
            packer.finish(seeded_hash(name, parameters.seed))
            report[name] = packer.report()
            if report[name]["fill"] < _POOR_FILL:
                logger.warning(
                    "pack: %s is only %.0f%% full: too few documents, or of lengths that do not "
                    "fit together; the rest is padding",
                    name,
                    100 * report[name]["fill"],
                )
    logger.info("pack: %s", report)
    return report


def _nothing_for(name: str) -> ConfigError | DataError:
    if name.startswith("heldout"):
        return DataError(f"{name}: no held-out documents. Run ingest and clean again.")
    return ConfigError(
        f"{name}: no document is left for this context length. Take the length out of "
        "`pack.curriculum`, raise its share, or add documents."
    )


def _windows(documents: Iterable[Tokens], parameters: PackParameters) -> Iterator[list[Tokens]]:
    """Shuffled windows of documents: their order in a file must not decide their length."""
    generator = np.random.default_rng(parameters.seed)
    window: list[Tokens] = []
    size = 0
    for tokens in tqdm(documents, desc="pack", disable=None):
        window.append(tokens)
        size += len(tokens)
        if size >= parameters.window_tokens:
            yield [window[place] for place in generator.permutation(len(window))]
            window, size = [], 0
    yield [window[place] for place in generator.permutation(len(window))]
