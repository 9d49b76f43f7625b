"""A byte-level BPE tokenizer for code and prose, learned from the corpus itself.

Byte-level, so that every text survives the round trip; one digit a token, so that numbers are read
the same way everywhere; runs of spaces stay together, so that an indentation is one token.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from curricle.config.corpus import TokenizerParameters
from curricle.errors import ConfigError, DataError
from curricle.pipelines.corpus.documents import is_chosen, read_documents, text_bytes

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
# In the order of their ids: 0 ends (and begins) a text, 1 pads, 2 and 3 enclose a chat message.
SPECIAL_TOKENS = (END_OF_TEXT, PAD, "<|im_start|>", "<|im_end|>")

# As GPT-4's (a word with the space or sign before it; signs with the line ends after them; spaces
# before a word stay one run), but one digit a piece.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BATCH_DOCUMENTS = 64


def train_tokenizer(
    folder: Path, documents: Path, parameters: TokenizerParameters
) -> dict[str, Any]:
    """Train on a sample of `documents/train.jsonl`; write what `AutoTokenizer` loads.

    Args:
        folder: gets tokenizer.json, tokenizer_config.json and special_tokens_map.json.
        documents: the folder that `clean` wrote.
        parameters: size of the vocabulary, cap of the sample.

    Returns:
        Size of the vocabulary, documents and bytes learned from.

    Raises:
        ConfigError: the sample has too few distinct pieces for `vocab_size`.
        DataError: the documents are missing or broken.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    train = documents / "train.jsonl"
    next(read_documents(train), None)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=parameters.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sampled = {"documents": 0, "bytes": 0}
    tokenizer.train_from_iterator(_sample(train, parameters, sampled), trainer)
    reached = tokenizer.get_vocab_size()
    if reached < parameters.vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size is {parameters.vocab_size}, but {sampled['documents']} "
            f"documents ({sampled['bytes']} bytes) of {train} give only {reached} tokens. Set "
            f"vocab_size to {reached} or less, raise sample_max_bytes, or add documents."
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PAD}
    _write_json(folder / "special_tokens_map.json", special)
    config = special | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    _write_json(folder / "tokenizer_config.json", config)
    report = {"vocab_size": reached} | {f"sample_{key}": value for key, value in sampled.items()}
    logger.info("train_tokenizer: %s", report)
    return report


def load_encoder(folder: Path) -> Any:
    """Load the tokenizer of `folder` for encoding documents.

    Text that spells a special token is encoded as the ordinary text that it is: a document must not
    be able to end itself.

    Returns:
        A `tokenizers.Tokenizer`; `token_to_id` gives the ids of special tokens.

    Raises:
        DataError: there is no tokenizer, or it lacks the end-of-text or the padding token.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file. Run the tokenizer step first.")
    tokenizer = Tokenizer.from_file(str(path))
    for token in (END_OF_TEXT, PAD):
        if tokenizer.token_to_id(token) is None:
            raise DataError(f"{path}: no token {token!r}. Train the tokenizer again.")
    tokenizer.encode_special_tokens = True
    return tokenizer


def _sample(
    train: Path, parameters: TokenizerParameters, sampled: dict[str, int]
) -> Iterator[list[str]]:
    """Batches of texts up to the cap, spread evenly over the file."""
    # The file is a little larger than its texts, so the sample stays a little below the cap.
    share = min(1.0, parameters.sample_max_bytes / train.stat().st_size)
    batch: list[str] = []
    for document in tqdm(read_documents(train), desc="tokenizer", disable=None):
        if share < 1.0 and not is_chosen(document["id"], parameters.seed, share):
            continue
        size = text_bytes(document["text"])
        if sampled["bytes"] + size > parameters.sample_max_bytes:
            continue
        sampled["documents"] += 1
        sampled["bytes"] += size
        batch.append(document["text"])
        if len(batch) == _BATCH_DOCUMENTS:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
