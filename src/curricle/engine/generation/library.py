"""Any causal model of transformers as a decoder: the library's layers, our attention.

The library lets an attention function be registered by name; ours reads and writes the caches of
the conversations that are packed into the one row that the model sees. So every architecture whose
attention goes through that interface generates in ragged batches (GPT-OSS with its sinks and
windows is tested), the model in memory is used as it is, adapters included, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel

from curricle.engine.generation.cache import CacheShape, ConversationCache
from curricle.engine.generation.linear import MIN_ROWS
from curricle.engine.generation.ragged import Piece, Plan, lay_out
from curricle.errors import ConfigError

_NAME = "curricle_ragged"


def _ragged_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    ragged_plan: Plan | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as a plan says: tensors come in as ``(1, heads, rows, size)``."""
    if ragged_plan is None or softcap is not None:
        raise ConfigError(
            f"generation.backend=transformers cannot run {type(module).__name__}: its attention "
            f"caps scores or drops what a caller passes. Use generation.backend=endpoint."
        )
    keys_values = torch.cat((key[0], value[0])).transpose(0, 1)
    attended = ragged_plan.attend(
        module.layer_idx, query[0].transpose(0, 1), keys_values, scaling, sliding_window, s_aux
    )
    return attended[None], None  # (1, rows, heads, size)


AttentionInterface.register(_NAME, _ragged_attention)


class LibraryDecoder:
    """A model of the library, in the type and on the device that it is in.

    Attributes:
        cache_shape: what a token costs in a cache.
        max_context: tokens that a conversation may have.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Use a model; its weights may change between generators, not within one."""
        self._model = model
        config = model.config.get_text_config()
        self._config = config
        self.max_context: int = config.max_position_embeddings
        heads = config.num_attention_heads
        self.cache_shape = CacheShape(
            layers=config.num_hidden_layers,
            heads=getattr(config, "num_key_value_heads", None) or heads,
            size=getattr(config, "head_dim", None) or config.hidden_size // heads,
            dtype=next(model.parameters()).dtype,
        )

    def new_cache(self) -> ConversationCache:
        """Return the empty cache of a new conversation."""
        return ConversationCache(self.cache_shape, self._model.device)

    @torch.no_grad()
    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """See :meth:`curricle.engine.generation.ragged.Decoder.forward`."""
        plan = lay_out(pieces, self._model.device)
        wanted = plan.last + [0] * max(0, MIN_ROWS - len(plan.last))
        # A model in training keeps its own attention: the name is ours for this call only.
        before, training = self._config._attn_implementation, self._model.training
        self._config._attn_implementation = _NAME
        self._model.eval()
        try:
            output = self._model(
                input_ids=plan.tokens[None],
                position_ids=plan.positions[None],
                use_cache=False,
                logits_to_keep=torch.tensor(wanted, device=self._model.device),
                ragged_plan=plan,
            )
        finally:
            self._config._attn_implementation = before
            self._model.train(training)
        logits: torch.Tensor = output.logits[0, : len(plan.last)]
        return logits.float()
