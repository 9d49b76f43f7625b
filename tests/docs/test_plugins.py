"""The plugin of docs/PLUGINS.md works as it stands there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from curricle.checkpoints.hashing import hash_tree
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.evaluate import evaluate, prepare_project
from curricle.execution.limits import Limits
from curricle.execution.toolchain import check_toolchain
from curricle.languages import LanguageBackend, Level, Project
from curricle.languages.registry import get_backend, plugin_conf
from tests.docs.markdown import PROJECT, blocks
from tests.plugins.uninstalled import write_metadata

EXAMPLES = {block.name: block.text for block in blocks(PROJECT / "docs/PLUGINS.md") if block.name}
LIMITS = Limits(wall_s=20)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's plugin, on the path with its metadata."""
    package = tmp_path / "curricle-shell/src/curricle_shell"
    (package / "conf/base/parameters").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "backend.py").write_text(EXAMPLES["backend"])
    (package / "conf/base/parameters/shell.yml").write_text(EXAMPLES["parameters"])
    (tmp_path / "curricle-shell/pyproject.toml").write_text(EXAMPLES["pyproject"])
    site = tmp_path / "site"
    site.mkdir()
    for module in ("curricle_shell", "curricle_shell.backend"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(write_metadata(tmp_path / "curricle-shell/pyproject.toml", site))
    monkeypatch.syspath_prepend(str(site))
    return tmp_path / "curricle-shell"


@pytest.fixture
def backend(plugin: Path) -> LanguageBackend:
    return get_backend("shell")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "double"
    root.mkdir()
    (root / "double.sh").write_text("echo $(($1 * 2))\n")
    (root / "test.sh").write_text('test "$(sh double.sh 4)" = 8 || { echo "not 8" >&2; exit 1; }\n')
    return Project("double", "shell", root, hash_tree(root), ("double.sh",), ("test.sh",))


def test_its_configuration_is_found(plugin: Path) -> None:
    conf = plugin_conf()["curricle-shell"]
    assert (conf / "base/parameters/shell.yml").read_text() == EXAMPLES["parameters"]


def test_its_tools_are_looked_for(backend: LanguageBackend) -> None:
    assert "sh" in check_toolchain(backend).versions


def test_it_runs_in_the_sandbox(backend: LanguageBackend, project: Project, tmp_path: Path) -> None:
    right: dict[str, str | None] = {}
    wrong: dict[str, str | None] = {"double.sh": "echo PASSED; echo $(($1 * 3))\n"}
    no_shell: dict[str, str | None] = {"double.sh": "if; then\n"}
    with BubblewrapSandbox() as sandbox:
        prepared = prepare_project(backend, project, tmp_path / "prepared", sandbox, LIMITS)

        def test(changes: dict[str, str | None], level: Level = Level.TEST):  # type: ignore[no-untyped-def]
            return evaluate(backend, prepared, changes, level, sandbox, LIMITS)

        assert test(right).passed == {"test.sh"}
        assert test(wrong).tests["test.sh"].message == "not 8\n"
        assert test(right, Level.CHECK).compiled is test(wrong, Level.CHECK).compiled is True
        assert test(no_shell, Level.CHECK).compiled is False


def test_it_keeps_the_rules(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plugin)
    file = tmp_path / "test_purity_of_shell.py"
    file.write_text(EXAMPLES["purity"])
    spec = importlib.util.spec_from_file_location("purity_of_shell", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.test_the_plugin_only_declares()
