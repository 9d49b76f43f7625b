"""The installed language plugins: distributions with an entry point in `curricle.languages`.

    [project.entry-points."curricle.languages"]
    rust = "curricle_rust.backend:RustBackend"

A plugin that does not work must not stop those that do: iterating leaves it out, with one warning
that names the distribution, and asking for it raises with the same words.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.resources
import inspect
import logging
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from curricle.errors import ConfigError
from curricle.languages.backend import LanguageBackend

logger = logging.getLogger(__name__)

GROUP = "curricle.languages"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed distribution; nothing of it is imported yet.

    Attributes:
        name: The language, as the names of pipelines carry it.
        target: `"module:class"`.
        distribution: What `pip` knows it as.
        version: The distribution's version.
        location: Where it is installed.
    """

    name: str
    target: str
    distribution: str
    version: str
    location: str

    @property
    def conf(self) -> Path | None:
        """Its packaged configuration, the folder `conf` of its top-level package."""
        package = self.target.partition(":")[0].partition(".")[0]
        conf = Path(str(importlib.resources.files(package))) / "conf"
        return conf if conf.is_dir() else None


def installed_plugins() -> tuple[Plugin, ...]:
    """Every plugin that is installed, by name, whether it works or not."""
    return _scan(tuple(sys.path))


def get_backend(name: str) -> LanguageBackend:
    """The backend of a language.

    Raises:
        ConfigError: It is not installed, or does not work; says why and what to do.
    """
    claims = [plugin for plugin in installed_plugins() if plugin.name == name]
    if not claims:
        raise ConfigError(_not_installed(name))
    return _load(claims[0])


def working_backends() -> Mapping[str, LanguageBackend]:
    """The backends of all languages whose plugins work, by name."""
    return {plugin.name: _load(plugin) for plugin in _working()}


def plugin_conf() -> Mapping[str, Path]:
    """The configuration folders of the plugins that work and bring one, by distribution."""
    folders = {plugin.distribution: plugin.conf for plugin in _working()}
    return {name: folder for name, folder in folders.items() if folder is not None}


def _working() -> tuple[Plugin, ...]:
    working = []
    for plugin in installed_plugins():
        try:
            _load(plugin)
        except ConfigError as error:
            _warn_once(f"{error} Until then its pipelines are left out.")
        else:
            working.append(plugin)
    return tuple(working)


@cache
def _scan(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """The plugins on an import path; reading the metadata of all distributions takes a while."""
    found = set()
    for entry in importlib.metadata.entry_points(group=GROUP):
        assert entry.dist is not None
        location = str(entry.dist.locate_file(""))
        plugin = Plugin(entry.name, entry.value, entry.dist.name, entry.dist.version, location)
        found.add(plugin)
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


@cache
def _load(plugin: Plugin) -> LanguageBackend:
    claims = Counter(other.name for other in installed_plugins())
    if claims[plugin.name] > 1:
        both = [p.distribution for p in installed_plugins() if p.name == plugin.name]
        raise ConfigError(
            f"The language {plugin.name!r} is claimed by {' and '.join(both)}. "
            f"Keep one: pip uninstall {both[-1]}."
        )
    if not _NAME.fullmatch(plugin.name):
        raise _broken(plugin, "its name can be no part of a pipeline's: use a-z, 0-9 and _")
    module, _, attribute = plugin.target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a plugin's module does while it is imported
        why = f"{plugin.target} cannot be imported: {type(error).__name__}: {error}"
        raise _broken(plugin, why) from error
    if not (inspect.isclass(found) and issubclass(found, LanguageBackend)):
        raise _broken(plugin, f"{plugin.target} is no subclass of LanguageBackend")
    if found.api != LanguageBackend.api:
        spoken = f"it is written for api {found.api}, this curricle has api {LanguageBackend.api}"
        raise _broken(plugin, f"{spoken}: install versions that go together")
    if getattr(found, "name", None) != plugin.name:
        named = getattr(found, "name", None)
        raise _broken(plugin, f"its class names the language {named!r}: the two must agree")
    try:
        return found()
    except Exception as error:  # missing methods, or whatever its constructor does
        raise _broken(plugin, f"{plugin.target} cannot be made: {error}") from error


def _broken(plugin: Plugin, why: str) -> ConfigError:
    return ConfigError(
        f"The language plugin {plugin.name!r} does not work: {why}. "
        f"Mend or update its distribution {plugin.distribution} {plugin.version} "
        f"(in {plugin.location}), or remove it: pip uninstall {plugin.distribution}."
    )


def _not_installed(name: str) -> str:
    known = [plugin.name for plugin in installed_plugins()]
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"Did you mean {close[0]!r}?" if close else f"Install it: pip install curricle-{name}"
    return (
        f"No plugin for the language {name!r} is installed; there is "
        f"{', '.join(known) or 'none at all'}. {remedy}"
    )


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)
