"""Installing a plugin makes its language appear, breaking it names it, removing it makes it go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.fresh_environment import REPOSITORY, FreshEnvironment
from tests.plugins.toy import write_plugin

SEEN = """
import json
from curricle.languages.registry import working_backends
from curricle.pipeline_registry import register_pipelines
from curricle.settings import CONFIG_LOADER_ARGS, CONFIG_LOADER_CLASS
loader = CONFIG_LOADER_CLASS("conf", env="base", **CONFIG_LOADER_ARGS)
print(json.dumps({
    "languages": list(working_backends()),
    "pipelines": [n for n in register_pipelines() if n.startswith(("tasks_", "lang_", "eval_"))],
    "toy": loader["parameters"].get("toy"),
}))
"""

ASK = """
from curricle.errors import ConfigError
from curricle.languages.registry import get_backend
try:
    get_backend("toy")
except ConfigError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> FreshEnvironment:
    return FreshEnvironment(tmp_path_factory.mktemp("fresh") / "environment")


def seen(environment: FreshEnvironment) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(environment.ask(SEEN)[0])
    return found


def pipelines_of(*languages: str) -> list[str]:
    stages = ("lang_{}", "lang_{}_grpo", "lang_{}_ipo", "lang_{}_sft")
    kinds = ("eval_{}", *stages, "tasks_{}")
    return sorted(kind.format(language) for kind in kinds for language in languages)


def copied(plugin: str, folder: Path) -> Path:
    """A plugin of this repository, copied so that a build leaves nothing in it."""
    leave_out = shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__")
    return Path(shutil.copytree(REPOSITORY / "plugins" / plugin, folder / plugin, ignore=leave_out))


def test_an_editable_plugin_appears_is_named_when_it_breaks_and_goes(
    environment: FreshEnvironment, tmp_path: Path
) -> None:
    nothing = seen(environment)
    assert nothing == {"languages": [], "pipelines": [], "toy": None}

    project = write_plugin(tmp_path)
    environment.install("--editable", project)
    assert seen(environment) == {
        "languages": ["toy"],
        "pipelines": pipelines_of("toy"),
        "toy": {"speed": 1, "depth": {"low": 1, "high": 2}},
    }
    listed = environment.kedro("registry", "list")
    assert all(f"- {name}\n" in listed for name in ("sft", *pipelines_of("toy")))

    (project / "src/curricle_toy/backend.py").write_text("import no_such_module")
    assert seen(environment) == nothing
    listed = environment.kedro("registry", "list")
    assert "- sft\n" in listed and not any(name in listed for name in pipelines_of("toy"))
    assert " ".join(listed.split()).count("pip uninstall curricle-toy") == 1, "one warning"
    why, _ = environment.ask(ASK)
    assert "No module named 'no_such_module'" in why
    assert "curricle-toy 0.3.0" in why and "remove it: pip uninstall curricle-toy" in why

    environment.pip("uninstall", "--yes", "curricle-toy")
    assert seen(environment) == nothing
    assert environment.ask(ASK)[0].startswith("No plugin for the language 'toy' is installed")


def test_a_wheel_carries_the_configuration_of_its_plugin(
    environment: FreshEnvironment, tmp_path: Path
) -> None:
    wheel = environment.wheel(write_plugin(tmp_path))
    environment.install(wheel)
    found = seen(environment)
    assert found["languages"] == ["toy"]
    assert found["toy"] == {"speed": 1, "depth": {"low": 1, "high": 2}}
    environment.pip("uninstall", "--yes", "curricle-toy")
    assert seen(environment)["languages"] == []


def test_the_python_plugin_works_from_its_wheel(
    environment: FreshEnvironment, tmp_path: Path
) -> None:
    project = copied("curricle-python", tmp_path)
    environment.install(environment.wheel(project))
    assert seen(environment)["pipelines"] == pipelines_of("python")
    program = """
from pathlib import Path
from curricle.execution.toolchain import check_toolchain
from curricle.languages.registry import get_backend
backend = get_backend("python")
check_toolchain(backend)
assert all(Path(folder).exists() for folder in backend.binds()), backend.binds()
samples = [Path(sample["path"]) for sample in backend.samples() if "path" in sample]
print(sum(len(list(sample.glob("**/test_*.py"))) for sample in samples))
"""
    tests, _ = environment.ask(program)
    of_source = list((REPOSITORY / "plugins/curricle-python/src").glob("**/samples/**/test_*.py"))
    assert int(tests) == len(of_source) > 0
    environment.pip("uninstall", "--yes", "curricle-python")
    assert seen(environment) == {"languages": [], "pipelines": [], "toy": None}


def test_the_test_suite_finds_the_plugins_of_this_repository_without_their_installation(
    environment: FreshEnvironment,
) -> None:
    # In the process of the tests, and in one that they start.
    names = "this_repository or nothing_heavy"
    arguments = f"['tests/languages/test_registry.py', '-p', 'no:cacheprovider', '-k', {names!r}]"
    said, _ = environment.ask(f"import pytest; raise SystemExit(pytest.main({arguments}))")
    assert "2 passed" in said
    assert seen(environment)["languages"] == []
