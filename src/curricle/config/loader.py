"""The configuration loader: Kedro's own, with the project's place as a resolver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf


class CurricleConfigLoader(OmegaConfigLoader):
    """Reads ``gates.yml`` as parameters, and resolves ``${project:PATH}`` to an absolute path.

    Kedro makes relative paths of the catalog absolute, but not those of parameters; the store's
    place is a parameter, because nodes that fill it need to know it.
    """

    def __init__(self, conf_source: str, *args: Any, **kwargs: Any) -> None:
        root = find_kedro_project(Path(conf_source)) or find_kedro_project(Path.cwd()) or Path.cwd()
        # Kedro registers `custom_resolvers` once a process; a second project in the same process (a
        # notebook, a service, a test) would then fill the first one's store.
        OmegaConf.register_new_resolver(
            "project", lambda path: str((root / path).resolve()), replace=True
        )
        super().__init__(conf_source, *args, **kwargs)
