"""No plugin starts a process or reaches into the core; new plugins are covered by being there."""

from __future__ import annotations

from pathlib import Path

import pytest

from curricle.languages.purity import core_imports, process_starts

REPOSITORY = Path(__file__).parents[2]
PLUGINS = sorted((REPOSITORY / "plugins").glob("*/src"))


@pytest.mark.parametrize("source", PLUGINS, ids=lambda path: path.parent.name)
def test_a_plugin_starts_no_process(source: Path) -> None:
    assert process_starts(source) == []


@pytest.mark.parametrize("source", PLUGINS, ids=lambda path: path.parent.name)
def test_a_plugin_imports_the_contract_alone(source: Path) -> None:
    assert core_imports(source) == []


def test_what_plugins_import_starts_no_process_either() -> None:
    assert process_starts(REPOSITORY / "src/curricle/languages") == []


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "from subprocess import run",
        "import multiprocessing.pool as pool",
        "def f():\n    import pty",
        "import os\nos.system('ls')",
        "import os as o\no.execvp('ls', ['ls'])",
        "from os import fork",
        "from os import posix_spawn as start",
        "import os\nstart = os.popen",
        "import asyncio\nasyncio.create_subprocess_exec('ls')",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor()",
        "from concurrent.futures import ProcessPoolExecutor",
    ],
)
def test_every_way_to_start_a_process_is_seen(tmp_path: Path, text: str) -> None:
    (tmp_path / "backend.py").write_text(text)
    (found, *_) = process_starts(tmp_path)
    assert found.startswith("backend.py:") and "declare a Command" in found


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.path.join('a', 'b')\nos.environ",
        "import re\nre.split('a', 'b')",
        "text = 'import subprocess'",
        "from curricle.languages import Command",
        "from curricle.languages.python_operators import PYTHON_OPERATORS",
    ],
)
def test_what_a_plugin_may_do_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "backend.py").write_text(text)
    assert process_starts(tmp_path) == core_imports(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "import curricle.execution",
        "from curricle.errors import DataError",
        "from curricle import execution",
        "from curricle.languages_of_mine import x",
    ],
)
def test_every_way_into_the_core_is_seen(tmp_path: Path, text: str) -> None:
    (tmp_path / "backend.py").write_text(text)
    (found,) = core_imports(tmp_path)
    assert "plugins import curricle.languages alone" in found
