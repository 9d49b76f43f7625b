"""Project settings; Kedro reads the upper-case names."""

from curricle.config.loader import CurricleConfigLoader
from curricle.hooks import CurriculumHooks

HOOKS = (CurriculumHooks(),)

CONFIG_LOADER_CLASS = CurricleConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment overrides single parameters, but replaces a catalog entry as a whole.
    "merge_strategy": {"parameters": "soft"},
    "config_patterns": {
        "parameters": ["parameters*", "parameters*/**", "**/parameters*", "gates*"],
    },
}
