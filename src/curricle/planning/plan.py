"""What a stage needs, from its parameters alone: a count, not a measurement.

Formulas (P parameters of the model, T trainable ones, all in fp32 as the engine keeps them):

* model state while training: ``4 P`` weights, ``4 T`` gradients, ``8 T`` AdamW moments, in bytes;
* activations: ``34 h`` bytes a token and layer in 16 bit (Korthikanti et al. 2022, eq. 2, without
  the attention matrix, which fused attention never stores), twice that in fp32, and the logits
  with their gradient, ``8 V`` bytes a token;
* the process itself, 1.0 GB: Python with torch, transformers and trl, before any model (measured);
* disk: the candidate ``4 P``, and ``4 P + 8 T`` for each trainer checkpoint that stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.config.architectures import ARCHITECTURES
from curricle.config.foundation import PACKAGED_MODELS
from curricle.errors import ConfigError
from curricle.planning.parameters import did_you_mean
from curricle.stages.spec import StageSpec

WEIGHT_BYTES = 4
GRADIENT_BYTES = 4
ADAM_BYTES = 8
_ACTIVATION_BYTES = 68  # per token, layer and hidden unit, in fp32
_LOGIT_BYTES = 8
_PROCESS_BYTES = 1_000_000_000


@dataclass(frozen=True)
class StagePlan:
    """What one stage needs.

    Attributes:
        stage: its name.
        parameters: of the model.
        trainable: of them, or of the adapter.
        steps: optimizer steps; ``None`` when the data decides.
        tokens: at most so many; ``None`` when the data decides.
        memory_bytes: process, model state, optimizer and activations of one forward pass.
        state_bytes: the part of it that no smaller micro-batch can lower.
        disk_bytes: the candidate and the trainer checkpoints that stay beside it.
    """

    stage: str
    parameters: int
    trainable: int
    steps: int | None
    tokens: int | None
    memory_bytes: int
    state_bytes: int
    disk_bytes: int


def architecture_fields(prepare: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the model that pretraining starts from, overrides applied.

    Raises:
        ConfigError: the architecture is unknown.
    """
    name = str(prepare.get("architecture"))
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"pretrain.prepare.architecture={name!r} is unknown; "
            f"{did_you_mean(name, ARCHITECTURES)}"
        )
    return {**ARCHITECTURES[name], **(prepare.get("overrides") or {})}


def count_parameters(fields: Mapping[str, Any]) -> int:
    """Return the parameters of a Llama.

    With hidden ``h``, intermediate ``i``, head width ``d``, ``a`` heads, ``k`` key-value heads and
    vocabulary ``V``, each of the ``L`` layers has ``2 h a d + 2 h k d`` in attention, ``3 h i`` in
    its gated MLP and ``2 h`` in norms; embeddings are ``V h``, twice when untied, and a last norm
    has ``h``.
    """
    hidden, layers = fields["hidden_size"], fields["num_hidden_layers"]
    heads = fields["num_attention_heads"]
    width = fields.get("head_dim") or hidden // heads
    attention = 2 * hidden * width * (heads + fields["num_key_value_heads"])
    layer = attention + 3 * hidden * fields["intermediate_size"] + 2 * hidden
    embeddings = fields["vocab_size"] * hidden * (1 if fields["tie_word_embeddings"] else 2)
    return int(embeddings + layers * layer + hidden)


def count_lora_parameters(fields: Mapping[str, Any], rank: int) -> int:
    """Return the parameters of an adapter on all linear layers: ``r (in + out)`` for each."""
    hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
    width = fields.get("head_dim") or hidden // heads
    queries, keys = heads * width, fields["num_key_value_heads"] * width
    attention = 2 * (hidden + queries) + 2 * (hidden + keys)
    mlp = 3 * (hidden + fields["intermediate_size"])
    return int(rank * fields["num_hidden_layers"] * (attention + mlp))


def plan_stage(
    spec: StageSpec, parameters: Mapping[str, Any], fields: Mapping[str, Any], keep: int
) -> StagePlan:
    """Estimate one stage.

    Args:
        spec: the stage.
        parameters: the whole tree of parameters, nested.
        fields: of the model's architecture.
        keep: trainer checkpoints that stay.
    """
    train = parameters[spec.name]["train"]
    model = count_parameters(fields)
    adapter = train if "r" in train else train.get("adapter")
    trainable = count_lora_parameters(fields, adapter["r"]) if adapter else model
    steps = train.get("max_steps")
    per_step = train.get("tokens_per_step") or train["batch_size"] * train["max_length"]
    longest = _longest(train, parameters)
    rows = train.get("per_device_train_batch_size") or max(1, per_step // longest)
    activations = rows * longest * (
        _ACTIVATION_BYTES * fields["num_hidden_layers"] * fields["hidden_size"]
        + _LOGIT_BYTES * fields["vocab_size"]
    )  # fmt: skip
    state = WEIGHT_BYTES * model + (GRADIENT_BYTES + ADAM_BYTES) * trainable
    return StagePlan(
        stage=spec.name,
        parameters=model,
        trainable=trainable,
        steps=steps,
        tokens=steps * per_step if steps else None,
        memory_bytes=_PROCESS_BYTES + state + activations,
        state_bytes=state,
        disk_bytes=WEIGHT_BYTES * model + keep * (WEIGHT_BYTES * model + ADAM_BYTES * trainable),
    )


def plan_stages(
    specs: tuple[StageSpec, ...], parameters: Mapping[str, Any]
) -> tuple[StagePlan, ...]:
    """Estimate stages, in order, without those whose model cannot be known yet."""
    fields = {"pretrain": _own_fields(parameters), "foundation": foundation_fields(parameters)}
    keep = parameters.get("run", {}).get("keep_checkpoints", 2)
    return tuple(
        plan_stage(spec, parameters, known, keep)
        for spec in specs
        if spec.job and (known := fields[spec.root])
    )


def foundation_fields(parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the architecture of the foundation, where it can be known before it is there."""
    foundation = parameters.get("foundation", {}).get("prepare")
    if not foundation:
        return None
    if foundation["kind"] == "packaged":
        return ARCHITECTURES[PACKAGED_MODELS[foundation["package"]].architecture]
    folder = foundation.get("path")
    configuration = Path(folder).expanduser() / "config.json" if folder else None
    if configuration is None or not configuration.is_file():
        return None
    fields: dict[str, Any] = json.loads(configuration.read_text())
    return fields


def _own_fields(parameters: Mapping[str, Any]) -> dict[str, Any] | None:
    prepare = parameters.get("pretrain", {}).get("prepare")
    return architecture_fields(prepare) if prepare else None


def longest_context(parameters: Mapping[str, Any]) -> int:
    """Return the longest row that the corpus packs, in tokens; 0 when it packs none."""
    curriculum = parameters.get("corpus", {}).get("pack", {}).get("curriculum", ())
    return max((stage["seq_length"] for stage in curriculum), default=0)


def _longest(train: Mapping[str, Any], parameters: Mapping[str, Any]) -> int:
    return int(train.get("max_length") or longest_context(parameters) or 1)
