"""Project settings; Kedro reads the upper-case names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from curricle.config.loader import CurricleConfigLoader
from curricle.hooks import CurriculumHooks

HOOKS = (CurriculumHooks(),)


def _plugin_conf() -> Mapping[str, Path]:
    from curricle.languages.registry import plugin_conf

    return plugin_conf()


def _languages() -> Iterable[str]:
    from curricle.languages.registry import installed_plugins

    return sorted(plugin.name for plugin in installed_plugins())


CONFIG_LOADER_CLASS = CurricleConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "plugin_conf": _plugin_conf,
    "languages": _languages,
    # An environment overrides single parameters, but replaces a catalog entry as a whole.
    "merge_strategy": {"parameters": "soft"},
    "config_patterns": {
        "parameters": ["parameters*", "parameters*/**", "**/parameters*", "gates*"],
    },
}
