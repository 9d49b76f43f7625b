"""A Llama forward pass for generation: ragged pieces of many conversations, packed without padding.

Two libraries were measured first: transformers pads a batch to its longest conversation, and
CTranslate2 cannot extend a conversation that it has cached. ``benchmarks/rollouts.py`` repeats the
comparison; a test holds the logits to those of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedModel

from curricle.engine.generation.cache import CacheShape, ConversationCache
from curricle.engine.generation.linear import (
    FEW_ROWS,
    MIN_ROWS,
    Linear,
    make_linear,
    one_thread,
)
from curricle.engine.generation.ragged import Piece, Plan, lay_out
from curricle.errors import ConfigError


@dataclass(frozen=True)
class _Layer:
    """Weights of a layer; query, key and value fused, gate and up fused."""

    attention_norm: torch.Tensor  # (hidden,)
    qkv: Linear
    output: Linear
    mlp_norm: torch.Tensor  # (hidden,)
    gate_up: Linear
    down: Linear


def unsupported_reason(model: PreTrainedModel) -> str:
    """Say what of a model this pass does not compute; empty when it computes all of it."""
    config = model.config
    if not isinstance(model, LlamaForCausalLM):
        return f"it is a {type(model).__name__}"
    if config.attention_bias or config.mlp_bias:
        return "its projections have biases"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}"
    if model.model.rotary_emb.rope_type in ("dynamic", "longrope"):
        return "its rotary frequencies change with the length"
    return ""


class LlamaDecoder:
    """A model's weights, fused for generation.

    Attributes:
        cache_shape: what a token costs in a cache.
        max_context: tokens that a conversation may have.
        vocabulary: entries of the embedding.
    """

    def __init__(self, model: PreTrainedModel, compute_type: str = "float32") -> None:
        """Take the weights of a model; it may be thrown away afterwards.

        Args:
            model: a Llama in memory, without adapters.
            compute_type: ``float32``, ``bfloat16`` or ``int8``.

        Raises:
            ConfigError: the model has something that this pass does not compute.
        """
        if reason := unsupported_reason(model):
            raise ConfigError(
                f"generation.backend=native cannot run this model: {reason}. "
                f"Use generation.backend=transformers."
            )
        config = model.config
        self._dtype = torch.bfloat16 if compute_type == "bfloat16" else torch.float32
        self._epsilon = config.rms_norm_eps
        self._heads = config.num_attention_heads
        self._size = config.head_dim or config.hidden_size // config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self.max_context: int = config.max_position_embeddings
        self.vocabulary: int = config.vocab_size
        self.cache_shape = CacheShape(
            config.num_hidden_layers, self._kv_heads, self._size, self._dtype
        )
        with torch.no_grad():
            self._take_weights(model, compute_type)

    def _take_weights(self, model: PreTrainedModel, compute_type: str) -> None:
        def vector(norm: Any) -> torch.Tensor:
            weight: torch.Tensor = norm.weight.detach()
            return weight.to(self._dtype, copy=True)

        def fused(*linears: Any) -> Linear:
            return make_linear(torch.cat([linear.weight for linear in linears]), compute_type)

        self._layers = [
            _Layer(
                attention_norm=vector(layer.input_layernorm),
                qkv=fused(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                output=fused(layer.self_attn.o_proj),
                mlp_norm=vector(layer.post_attention_layernorm),
                gate_up=fused(layer.mlp.gate_proj, layer.mlp.up_proj),
                down=fused(layer.mlp.down_proj),
            )
            for layer in model.model.layers
        ]
        self._norm = vector(model.model.norm)
        self._head = make_linear(model.lm_head.weight.detach().clone(), compute_type)
        self._embedding = model.model.embed_tokens.weight.detach().to(self._dtype, copy=True)
        self._device = self._embedding.device
        rotary = model.model.rotary_emb
        positions = torch.arange(self.max_context, device=self._device).float()
        angles = torch.outer(positions, rotary.inv_freq.float().to(self._device))
        angles = torch.cat((angles, angles), dim=1)  # (position, size)
        self._cosine = (angles.cos() * rotary.attention_scaling).to(self._dtype)
        self._sine = (angles.sin() * rotary.attention_scaling).to(self._dtype)

    def new_cache(self) -> ConversationCache:
        """Return the empty cache of a new conversation."""
        return ConversationCache(self.cache_shape, self._device)

    @torch.inference_mode()
    def forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """See :meth:`curricle.engine.generation.ragged.Decoder.forward`."""
        plan = lay_out(pieces, self._device)
        with one_thread(len(plan.tokens) <= FEW_ROWS):
            return self._read(plan)

    def _read(self, plan: Plan) -> torch.Tensor:
        cosine, sine = self._cosine[plan.positions][:, None], self._sine[plan.positions][:, None]
        hidden = self._embedding[plan.tokens]  # (rows, hidden)
        rotated, half = self._heads + self._kv_heads, self._size // 2
        for number, layer in enumerate(self._layers):
            normed = self._normalise(hidden, layer.attention_norm)
            qkv = layer.qkv(normed).view(len(hidden), rotated + self._kv_heads, self._size)
            turning = qkv[:, :rotated]
            swapped = torch.cat((-turning[..., half:], turning[..., :half]), dim=-1)
            turning.copy_(turning * cosine + swapped * sine)
            mixed = plan.attend(number, qkv[:, : self._heads], qkv[:, self._heads :])
            hidden = hidden + layer.output(mixed.view(len(hidden), -1))
            normed = self._normalise(hidden, layer.mlp_norm)
            gate, up = layer.gate_up(normed).chunk(2, dim=1)
            hidden = hidden + layer.down(functional.silu(gate) * up)
        padding = [0] * max(0, MIN_ROWS - len(plan.last))
        chosen = self._normalise(hidden[plan.last + padding], self._norm)
        return self._head(chosen)[: len(plan.last)].float()

    def _normalise(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, weight.shape, weight, self._epsilon)
