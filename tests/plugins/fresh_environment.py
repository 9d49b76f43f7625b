"""A Python environment in which curricle is installed and no language plugin is.

The heavy libraries are those of the environment that runs the tests, seen through links: everything
that is installed there except curricle and its plugins. So an environment costs a second, and what
`pip` does in it is real.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.plugins.uninstalled import write_metadata

REPOSITORY = Path(__file__).parents[2]


class FreshEnvironment:
    """An environment in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.python = folder / "bin" / "python"
        libraries, own = folder / "libraries", folder / "own"
        libraries.mkdir()
        own.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if "curricle" not in entry.name and entry.suffix != ".pth":
                (libraries / entry.name).symlink_to(entry)
        source = write_metadata(REPOSITORY / "pyproject.toml", own)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        path = "\n".join(map(str, (source, own, libraries)))
        (folder / "lib" / version / "site-packages" / "fresh.pth").write_text(path)
        # Nothing of the environment around: neither its plugins nor its telemetry.
        self._variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self._variables["DO_NOT_TRACK"] = "1"

    def pip(self, *arguments: str | Path) -> None:
        """Run pip on this environment; builds use the libraries that are here."""
        offline = ("--disable-pip-version-check", "--quiet")
        pip = [sys.executable, "-m", "pip", "--python", self.python, *offline]
        self._run([*pip, *arguments])

    def install(self, *arguments: str | Path) -> None:
        """Install without asking any index."""
        self.pip("install", "--no-index", "--no-deps", "--no-build-isolation", *arguments)

    def wheel(self, project: Path) -> Path:
        """Build a project's wheel."""
        folder = project / "dist"
        self.pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, project)
        (built,) = folder.glob("*.whl")
        return built

    def ask(self, program: str) -> tuple[str, str]:
        """Run a program in this repository; return what it prints, and what it warns."""
        done = self._run([self.python, "-W", "ignore", "-c", program], REPOSITORY)
        return done.stdout.strip(), done.stderr

    def kedro(self, *arguments: str) -> str:
        """Run `kedro` on this repository's project, and return all that it prints."""
        done = self._run([self.python, "-W", "ignore", "-m", "kedro", *arguments], REPOSITORY)
        return done.stdout + done.stderr

    def _run(
        self, command: list[str | Path], folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(  # noqa: PLW1510 (the assertion shows what it said)
            command, cwd=folder, env=self._variables, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done
