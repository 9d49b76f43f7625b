"""A small real language plugin, written as a project: a toy language whose compiler is Python.

What matters here is not the language but that the project is one, with metadata, packaged
configuration and a wheel.
"""

from __future__ import annotations

from pathlib import Path

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "curricle-{name}"
version = "0.3.0"
dependencies = ["curricle"]

[project.entry-points."curricle.languages"]
{name} = "curricle_{name}.backend:ToyBackend"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
"*" = ["*.yml", "conf/**/*"]
"""

BACKEND = '''\
"""A toy language."""

from curricle.languages import Canaries, Command, Evaluation, LanguageBackend, Level, Tool


class ToyBackend(LanguageBackend):
    """One line is one program; Python compiles it."""

    name = "{name}"
    toolchain = (Tool("python", ("{{python}}", "--version"), "3.11", "apt install python3"),)
    metrics = {{Level.CHECK: "toy_pass_rate"}}

    def commands(self, prepared, level, tests=None):
        """Compile the program."""
        return (Command(("python3", "-m", "py_compile", "program.toy")),)

    def parse(self, prepared, level, outputs):
        """It compiles or it does not."""
        (output,) = outputs
        return Evaluation(complete=True, compiled=output.exit_code == 0)

    def canaries(self, project, seed):
        """A toy has no tests."""
        return Canaries({{}}, {{}})
'''

CONF = {
    "base/parameters/toy.yml": "toy:\n  speed: 1\n  depth: {low: 1, high: 2}\n",
    "base/catalog/toy.yml": (
        "toy_programs:\n  type: text.TextDataset\n  filepath: ${globals:data}/toy.txt\n"
    ),
    "test/parameters/toy.yml": "toy:\n  depth: {high: 5}\n",
}


def write_plugin(folder: Path, name: str = "toy", **files: str) -> Path:
    """Write the project of a plugin; `files` replace those of the package, by name."""
    project = folder / f"curricle-{name}"
    package = project / "src" / f"curricle_{name}"
    texts = {"__init__.py": "", "backend.py": BACKEND.format(name=name)}
    texts |= {f"conf/{path}": text for path, text in CONF.items()} if name == "toy" else {}
    texts |= {f"{stem}.py": text for stem, text in files.items()}
    for path, text in texts.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(text)
    (project / "pyproject.toml").write_text(PYPROJECT.format(name=name))
    return project
