"""Generation through CTranslate2: a converted copy of a checkpoint, kept in the store.

The library can share the state of a prompt that all requests begin with, but not extend the cache
of a conversation: each turn is read from its beginning. It is here for what our own pass does not
run as fast, and as a second opinion on it; ``benchmarks/rollouts.py`` measures both.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from curricle.agents.generator import Completion, Ending, Turn
from curricle.checkpoints.hashing import hash_tree
from curricle.checkpoints.store import Built, Store, Stored
from curricle.errors import ConfigError

logger = logging.getLogger(__name__)

CONVERT_STEP = "convert.ctranslate2"


def convert_checkpoint(
    store: Store, checkpoint: Path, compute_type: str, digest: str | None = None
) -> Stored:
    """Return the converted form of a checkpoint, made once for its digest and type.

    Args:
        store: keeps the copies.
        checkpoint: a saved model with its tokenizer.
        compute_type: ``float32``, ``bfloat16`` or ``int8``: the type that weights are stored in.
        digest: the checkpoint's, where it is known; otherwise its files are hashed.

    Raises:
        ConfigError: the library cannot convert the architecture.
    """
    version = importlib.metadata.version("ctranslate2")
    identity = {
        # The name under which the collection of garbage keeps it as long as its candidate.
        "inputs": {"candidate": digest or hash_tree(checkpoint)},
        "compute_type": compute_type,
        "ctranslate2": version,
    }

    def build(result: Path, resume: Path) -> Built:
        from ctranslate2.converters import TransformersConverter

        try:
            converter = TransformersConverter(str(checkpoint), low_cpu_mem_usage=True)
            converter.convert(str(result), quantization=compute_type, force=True)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ConfigError(
                f"CTranslate2 cannot convert {checkpoint}: {error}. "
                f"Use generation.backend=native or transformers."
            ) from error
        return Built(versions={"ctranslate2": version})

    return store.obtain(CONVERT_STEP, identity, build)


class CTranslate2Generator:
    """Generates with a converted model; a batch is whatever waits when it is polled.

    Greedy answers are those of the converted model. Drawn ones repeat for the same seeds in the
    same batch only: the library has one seed for all.
    """

    heeds_unlike = False

    def __init__(
        self,
        folder: Path,
        stop_tokens: Collection[int],
        max_context: int,
        batch_size: int = 16,
        compute_type: str = "default",
        threads: int | None = None,
    ) -> None:
        """Load.

        Args:
            folder: from :func:`convert_checkpoint`.
            stop_tokens: ids that end an answer.
            max_context: tokens that a conversation may have.
            batch_size: conversations of one call.
            compute_type: the library's name of the arithmetic.
            threads: of one call; ``None`` for the library's choice.
        """
        import ctranslate2

        self._library = ctranslate2
        self._model = ctranslate2.Generator(
            str(folder), device="cpu", compute_type=compute_type, intra_threads=threads or 0
        )
        self._names: list[str] = json.loads((folder / "vocabulary.json").read_text())
        self._stop = sorted(stop_tokens)
        self._max_context = max_context
        self._batch_size = batch_size
        self._conversations: dict[str, list[int]] = {}
        self._waiting: list[Turn] = []

    def submit(self, turn: Turn) -> None:
        """See :class:`curricle.agents.generator.Generator`."""
        self._conversations.setdefault(turn.conversation, []).extend(turn.tokens)
        self._waiting.append(turn)

    def drop(self, conversation: str) -> None:
        """See :class:`curricle.agents.generator.Generator`."""
        self._conversations.pop(conversation, None)
        self._waiting = [turn for turn in self._waiting if turn.conversation != conversation]

    def close(self) -> None:
        """Free the model."""
        self._conversations.clear()
        self._waiting.clear()
        self._model.unload_model()

    def poll(self, timeout_s: float) -> list[Completion]:
        """Answer one batch, however long it takes; the number of tokens bounds it."""
        completed: list[Completion] = []
        batch: list[Turn] = []
        first = self._waiting[0] if self._waiting else None
        for turn in self._waiting:
            # One call has one temperature and one limit.
            if len(batch) < self._batch_size and _settings(turn) == _settings(first):
                batch.append(turn)
        self._waiting = [turn for turn in self._waiting if turn not in batch]
        for turn in list(batch):
            if len(self._conversations[turn.conversation]) >= self._max_context:
                batch.remove(turn)
                completed.append(Completion(turn.conversation, (), "context"))
        if batch:
            completed += self._generate(batch)
        return completed

    def _generate(self, batch: list[Turn]) -> list[Completion]:
        prompts = [self._conversations[turn.conversation] for turn in batch]
        options: dict[str, Any] = {"sampling_topk": 1}
        if batch[0].temperature > 0:
            self._library.set_random_seed(batch[0].seed % 2**31)
            options = {"sampling_topk": 0, "sampling_temperature": batch[0].temperature}
        room = self._max_context - max(map(len, prompts))
        results = self._model.generate_batch(
            [[self._names[token] for token in prompt] for prompt in prompts],
            max_length=min(batch[0].max_new_tokens, max(room, 1)),
            end_token=self._stop,
            return_end_token=True,
            include_prompt_in_result=False,
            **options,
        )
        completed = []
        for turn, prompt, result in zip(batch, prompts, results, strict=True):
            tokens = tuple(result.sequences_ids[0])
            read = len(prompt)
            prompt.extend(tokens)
            ending: Ending = "stop" if tokens and tokens[-1] in self._stop else "length"
            completed.append(Completion(turn.conversation, tokens, ending, read_tokens=read))
        return completed


def _settings(turn: Turn | None) -> tuple[int, float] | None:
    return None if turn is None else (turn.max_new_tokens, turn.temperature)
