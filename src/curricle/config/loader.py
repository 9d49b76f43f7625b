"""The configuration loader: Kedro's own, with the project's place as a resolver, and with plugins.

A plugin's defaults lie beneath the project's, environment by environment:
plugin base < project base < plugin environment < project environment < ``--params``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project
from omegaconf import DictConfig, OmegaConf

from curricle.errors import ConfigError


class CurricleConfigLoader(OmegaConfigLoader):
    """Reads ``gates.yml`` as parameters, and resolves ``${project:PATH}`` to an absolute path.

    Kedro makes relative paths of the catalog absolute, but not those of parameters; the store's
    place is a parameter, because nodes that fill it need to know it.

    Args:
        conf_source: the project's folder of configuration.
        plugin_conf: gives the packaged configuration of plugins, by distribution: folders with
            ``base`` and, if a plugin wants, further environments. Asked when it is first needed.
        languages: gives the names of the installed languages, each of which gets the defaults of
            ``language.stages`` as stages of its own.
        args: for Kedro's loader.
        kwargs: likewise.
    """

    def __init__(
        self,
        conf_source: str,
        *args: Any,
        plugin_conf: Callable[[], Mapping[str, Path]] = dict,
        languages: Callable[[], Iterable[str]] = tuple,
        **kwargs: Any,
    ) -> None:
        root = find_kedro_project(Path(conf_source)) or find_kedro_project(Path.cwd()) or Path.cwd()
        # Kedro registers `custom_resolvers` once a process; a second project in the same process (a
        # notebook, a service, a test) would then fill the first one's store.
        OmegaConf.register_new_resolver(
            "project", lambda path: str((root / path).resolve()), replace=True
        )
        self._plugin_conf = plugin_conf
        self._languages = languages
        super().__init__(conf_source, *args, **kwargs)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the configuration of a kind, plugins' defaults beneath it.

        Raises:
            ConfigError: two plugins give the same parameter or dataset.
        """
        was_set = key in self
        merged = self._merged(key)
        return merged if was_set or key != "parameters" else spread(merged, self._languages())

    def _resolve_from_raw_config(
        self,
        key: str,
        base_configs: dict[Path, DictConfig],
        env_configs: dict[Path, DictConfig],
        *where: Any,
    ) -> dict[str, Any]:
        """Resolve parameters over both environments together.

        Kedro resolves each by itself, so that what base takes over by interpolation would keep
        base's value when an environment changes it where it stands.
        """
        if key == "parameters":
            base_configs, env_configs = {**base_configs, **env_configs}, {}
        resolved: dict[str, Any] = super()._resolve_from_raw_config(
            key, base_configs, env_configs, *where
        )
        return resolved

    def _merged(self, key: str) -> dict[str, Any]:
        was_set = key in self
        project: dict[str, Any] = super().__getitem__(key)
        if was_set or key not in ("parameters", "catalog"):
            return project
        environment = self.env or self.default_run_env
        base, specific = (self._plugins(key, env) for env in (self.base_env, environment))
        if not base and not specific:
            return project
        merged = _over if key == "parameters" else _replacing
        if not specific or environment == self.base_env:
            return merged(base, project)
        project_base = self._layer(Path(self.conf_source) / self.base_env, key)
        project_specific = self._layer(Path(self.conf_source) / environment, key)
        return merged(merged(merged(base, project_base), specific), project_specific)

    def _plugins(self, key: str, environment: str) -> dict[str, Any]:
        """What all plugins give for an environment."""
        together: dict[str, Any] = {}
        givers: dict[str, str] = {}
        for distribution, folder in self._plugin_conf().items():
            if not (folder / environment).is_dir():
                continue
            layer = self._layer(folder / environment, key)
            given = set(leaves(layer)) if key == "parameters" else set(layer)
            for name in sorted(given.difference(leaves(self.runtime_params))):
                other = givers.setdefault(name, distribution)
                if other != distribution:
                    raise ConfigError(
                        f"{key}: {name} is given by both plugins {other} and {distribution}. "
                        f"Update them, or remove one: pip uninstall {distribution}."
                    )
            together = _over(together, layer)
        return together

    def _layer(self, folder: Path, key: str) -> dict[str, Any]:
        """One folder's files, resolved; ``--params`` are in it, where it is parameters."""
        layer: dict[str, Any] = self.load_and_merge_dir_config(
            str(folder), self.config_patterns[key], key, set()
        )
        return layer


def spread(parameters: dict[str, Any], languages: Iterable[str]) -> dict[str, Any]:
    """Give every language the stages and policies that stand once, under ``language``.

    ``language.stages.sft`` lies beneath ``lang_<x>_sft``, ``gates.language.sft`` beneath
    ``gates.lang_<x>_sft``: budgets belong to the core and its environments, so that a plugin need
    not know them, and a language may still differ. ``agent`` holds what several blocks take over
    by interpolation; nothing else reads it.
    """
    result = {name: block for name, block in parameters.items() if name != "agent"}
    shared = dict(result.pop("language", {}))
    gates = dict(result.pop("gates", {}))
    stages, policies = shared.pop("stages", {}), gates.pop("language", {})
    for language in languages:
        for stage, block in stages.items():
            name = f"lang_{language}_{stage}"
            result[name] = _over(block, result.get(name, {}))
        for stage, policy in policies.items():
            name = f"lang_{language}_{stage}"
            gates[name] = _over(policy, gates.get(name, {}))
    return {**result, **({"language": shared} if shared else {}),
            **({"gates": gates} if gates else {})}  # fmt: skip


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of each value; an empty block counts as one."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with each value that ``above`` also has replaced, at every depth."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _over(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _replacing(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, an entry of ``above`` instead of one of the same name as a whole."""
    return {**below, **above}
