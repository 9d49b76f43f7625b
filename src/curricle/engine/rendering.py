"""Turns conversations into tokens and a mask of what the assistant said.

The mask comes from the template's own generation markers, and is checked: a template that drops a
turn, or marks nothing, would train on nothing or on everything without a word. So would text that
spells ``<|im_end|>``, which ends the turn of whoever quotes it. Here each is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast as Tokenizer

from curricle.errors import DataError

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens.

    Attributes:
        input_ids: (tokens,) int64.
        assistant_mask: (tokens,) bool, true where the assistant speaks, its end of turn included.
    """

    input_ids: np.ndarray
    assistant_mask: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)


def attach_chat_template(tokenizer: Tokenizer) -> None:
    """Give a tokenizer without a chat template ours; it is saved with the checkpoint."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = (
            resources.files("curricle.engine").joinpath("chat_template.jinja").read_text()
        )


def render(tokenizer: Tokenizer, messages: Messages, where: str) -> Rendered:
    """Render one conversation.

    Args:
        tokenizer: carries the chat template.
        messages: dicts of ``role`` and ``content``.
        where: file and row, for messages.

    Raises:
        DataError: the template marks nothing as the assistant's, or drops an assistant turn; or a
            message spells a special token.
    """
    if any(not isinstance(message.get("content"), str) for message in messages):
        raise DataError(
            f"{where}: a turn without text content. Tool calls need a chat template that renders "
            f"them; write the call into the content, or leave the row out."
        )
    refuse_special_tokens(tokenizer, messages, where)
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    input_ids = np.asarray(encoded["input_ids"], dtype=np.int64)
    mask = np.asarray(encoded["assistant_masks"], dtype=bool)
    spoken = [m["content"] for m in messages if m["role"] == "assistant"]
    if spoken and not mask.any():
        raise DataError(
            f"{where}: the chat template marks no token as the assistant's, so nothing would be "
            f"trained. Put {{% generation %}} ... {{% endgeneration %}} around its content."
        )
    runs = _runs(mask)
    said = [tokenizer.decode(input_ids[start:stop]) for start, stop in runs]
    if len(runs) != len(spoken) or any(
        t.strip() not in s for t, s in zip(spoken, said, strict=True)
    ):
        raise DataError(
            f"{where}: {len(spoken)} assistant turns, but the chat template renders "
            f"{len(runs)} of them as they are. Use a template that keeps every turn."
        )
    return Rendered(input_ids, mask)


def render_row(tokenizer: Tokenizer, row: dict[str, Any], where: str) -> Rendered:
    """Render a row with ``messages``, or one with a plain ``text``, which is trained as a whole."""
    if row.get("messages") is not None:
        return render(tokenizer, row["messages"], where)
    refuse_special_tokens(tokenizer, [{"content": row["text"]}], where)
    ids = [*tokenizer(row["text"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    input_ids = np.asarray(ids, dtype=np.int64)
    # Nothing before the first token predicts it.
    return Rendered(input_ids, np.arange(len(ids)) > 0)


def render_prompt(tokenizer: Tokenizer, prompt: Messages, where: str) -> list[int]:
    """Return the tokens of a prompt, ending where the assistant is to speak.

    Raises:
        DataError: a message spells a special token.
    """
    refuse_special_tokens(tokenizer, prompt, where)
    encoded = tokenizer.apply_chat_template(
        prompt, tokenize=True, return_dict=True, add_generation_prompt=True
    )
    ids: list[int] = encoded["input_ids"]
    return ids


def refuse_special_tokens(tokenizer: Tokenizer, messages: Messages, where: str) -> None:
    """Make sure that no message spells a token that only the template may write.

    The tokenizer reads the rendered text as a whole and cannot tell the two apart: a user's
    ``<|im_end|>`` would end the turn, and what follows could pass for the assistant's.

    Raises:
        DataError: one does; names the message and the token.
    """
    reserved = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    for number, message in enumerate(messages, start=1):
        for token in reserved:
            if token in str(message.get("content", "")):
                raise DataError(
                    f"{where}, message {number}: the text spells the special token {token}, which "
                    f"would end or fake a turn. Leave this row out, or its source file."
                )


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
