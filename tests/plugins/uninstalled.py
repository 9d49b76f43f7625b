"""Makes the plugins of this repository known to Python where nobody has installed them.

An installed distribution is a folder on the import path with its metadata beside it. So metadata of
each plugin is written into a temporary folder, and both go on the path: of this process, and by
PYTHONPATH of every process that a test starts. What `pip install -e plugins/...` does, for one run.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

PLUGINS = Path(__file__).parents[2] / "plugins"


def offer_plugins() -> None:
    """Put the plugins on the path that are not installed."""
    missing = [p for p in sorted(PLUGINS.glob("*/pyproject.toml")) if not _installed(p)]
    if missing:
        site = Path(tempfile.mkdtemp(prefix="curricle-plugins-"))
        atexit.register(shutil.rmtree, site, ignore_errors=True)
        path = [str(site), *(write_metadata(pyproject, site) for pyproject in missing)]
        sys.path[:0] = path
        os.environ["PYTHONPATH"] = os.pathsep.join([*path, *_python_path()])


def write_metadata(pyproject: Path, site: Path) -> str:
    """Write the metadata of a project into a folder of the path; return where its code is."""
    project = tomllib.loads(pyproject.read_text())["project"]
    name = project["name"].replace("-", "_")
    folder = site / f"{name}-{project['version']}.dist-info"
    folder.mkdir()
    head = f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {project['version']}\n"
    requires = (f"Requires-Dist: {name}\n" for name in project.get("dependencies", ()))
    (folder / "METADATA").write_text(head + "".join(requires))
    (folder / "entry_points.txt").write_text("".join(_sections(project.get("entry-points", {}))))
    return str(pyproject.parent / "src")


def _sections(groups: dict[str, dict[str, str]]) -> Iterable[str]:
    for group, entries in groups.items():
        yield f"[{group}]\n"
        yield from (f"{name} = {target}\n" for name, target in entries.items())


def _installed(pyproject: Path) -> bool:
    try:
        importlib.metadata.distribution(tomllib.loads(pyproject.read_text())["project"]["name"])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _python_path() -> list[str]:
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
