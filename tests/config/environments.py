"""The project's environments, read as Kedro reads them."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from curricle.config.loader import CurricleConfigLoader
from curricle.pipeline_registry import register_pipelines
from curricle.settings import CONFIG_LOADER_ARGS

PROJECT = Path(__file__).parents[2]


def parameters(environment: str) -> dict[str, Any]:
    arguments = {**CONFIG_LOADER_ARGS, "default_run_env": environment}
    loader = CurricleConfigLoader(str(PROJECT / "conf"), **arguments)
    return dict(loader["parameters"])


def typed_blocks() -> dict[str, type[BaseModel]]:
    """Every parameter block that a node receives, and the model that Kedro makes of it."""
    blocks = {}
    for node in (node for pipeline in register_pipelines().values() for node in pipeline.nodes):
        types = typing.get_type_hints(node.func)
        inputs = node._inputs if isinstance(node._inputs, dict) else {}
        for argument, dataset in inputs.items():
            kind = types.get(argument)
            if dataset.startswith("params:") and isinstance(kind, type):
                if issubclass(kind, BaseModel):
                    blocks[dataset.removeprefix("params:")] = kind
    return blocks


def block(loaded: dict[str, Any], name: str) -> Any:
    """A block of an environment's parameters by its dotted name; empty where there is none."""
    for part in name.split("."):
        loaded = loaded.get(part) or {}
    return loaded
