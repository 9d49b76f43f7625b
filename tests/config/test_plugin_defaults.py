"""Plugin base < project base < plugin environment < project environment < --params."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from curricle.config.loader import CurricleConfigLoader
from curricle.errors import ConfigError
from curricle.languages.registry import plugin_conf
from curricle.settings import CONFIG_LOADER_ARGS
from tests.plugins.toy import write_plugin
from tests.plugins.uninstalled import write_metadata

Load = Callable[..., dict[str, Any]]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    folder = write(
        tmp_path / "project" / "conf",
        base__globals="data: data",
        base__parameters="run: {threads: 1}",
        base__catalog="own: {type: text.TextDataset, filepath: own.txt}",
    )
    (folder / "test").mkdir()
    return folder


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed plugin with packaged configuration; returns the folder of that."""
    project = write_plugin(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    for module in ("curricle_toy", "curricle_toy.backend"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(write_metadata(project / "pyproject.toml", site))
    monkeypatch.syspath_prepend(str(site))
    return project / "src/curricle_toy/conf"


@pytest.fixture
def load(conf: Path, toy: Path) -> Load:
    def of_toy() -> Mapping[str, Path]:
        return {name: folder for name, folder in plugin_conf().items() if name == "curricle-toy"}

    def configuration(key: str, env: str = "test", **params: Any) -> dict[str, Any]:
        arguments = {**CONFIG_LOADER_ARGS, "plugin_conf": of_toy}
        return CurricleConfigLoader(str(conf), env=env, runtime_params=params, **arguments)[key]

    return configuration


def test_a_plugin_brings_its_defaults(load: Load) -> None:
    assert load("parameters", env="base") == {
        "run": {"threads": 1},
        "toy": {"speed": 1, "depth": {"low": 1, "high": 2}},
    }
    assert load("catalog") == {
        "own": {"type": "text.TextDataset", "filepath": "own.txt"},
        "toy_programs": {"type": "text.TextDataset", "filepath": "data/toy.txt"},
    }


def test_the_project_overrides_single_parameters_of_a_plugin(load: Load, conf: Path) -> None:
    write(conf, base__parameters_toy="toy: {depth: {low: 7}}")
    assert load("parameters", env="base")["toy"] == {"speed": 1, "depth": {"low": 7, "high": 2}}


def test_a_plugin_environment_lies_above_the_project_base(load: Load, conf: Path) -> None:
    write(conf, base__parameters_toy="toy: {depth: {low: 7, high: 7}}")
    assert load("parameters")["toy"] == {"speed": 1, "depth": {"low": 7, "high": 5}}


def test_the_project_environment_lies_above_that_of_a_plugin(load: Load, conf: Path) -> None:
    write(conf, base__parameters_toy="toy: {speed: 7}", test__parameters="toy: {depth: {high: 9}}")
    assert load("parameters")["toy"] == {"speed": 7, "depth": {"low": 1, "high": 9}}


@pytest.mark.parametrize("env", ["base", "test"])
def test_params_lie_above_all(load: Load, conf: Path, env: str) -> None:
    write(conf, test__parameters="toy: {depth: {high: 9}}")
    found = load("parameters", env=env, toy={"depth": {"high": 11}})
    assert found["toy"] == {"speed": 1, "depth": {"low": 1, "high": 11}}


def test_a_dataset_of_the_project_replaces_that_of_a_plugin(load: Load, conf: Path) -> None:
    write(conf, test__catalog="toy_programs: {type: json.JSONDataset, filepath: toy.json}")
    assert load("catalog")["toy_programs"] == {"type": "json.JSONDataset", "filepath": "toy.json"}


def test_what_was_set_by_hand_stays(conf: Path, toy: Path) -> None:
    loader = CurricleConfigLoader(str(conf), env="base", **CONFIG_LOADER_ARGS)
    loader["parameters"] = {"mine": 1}
    assert loader["parameters"] == {"mine": 1}


def test_a_plugin_that_is_broken_brings_nothing(load: Load, toy: Path) -> None:
    (toy.parent / "backend.py").write_text("import no_such_module")
    assert load("parameters") == {"run": {"threads": 1}}


def test_two_plugins_that_give_the_same_are_refused(conf: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "one", base__parameters="toy: {speed: 1}", base__catalog="x: {type: a}")
    two = write(tmp_path / "two", base__parameters="toy: {depth: 1}", base__catalog="y: {type: b}")

    def both() -> Mapping[str, Path]:
        return {"curricle-one": one, "curricle-two": two}

    def load(key: str, **params: Any) -> dict[str, Any]:
        arguments = {**CONFIG_LOADER_ARGS, "plugin_conf": both}
        return CurricleConfigLoader(str(conf), env="base", runtime_params=params, **arguments)[key]

    assert load("parameters", toy={"depth": 3})["toy"] == {"speed": 1, "depth": 3}
    assert set(load("catalog")) == {"own", "x", "y"}
    write(two, base__parameters="toy: {speed: 2}", base__catalog="x: {type: b}")
    for key, name in (("parameters", r"toy\.speed"), ("catalog", "x")):
        with pytest.raises(ConfigError, match=f"{name} is given by both.*pip uninstall curricle"):
            load(key)


def test_without_plugins_configuration_is_as_kedro_reads_it(conf: Path) -> None:
    arguments = {**CONFIG_LOADER_ARGS, "plugin_conf": dict}
    loader = CurricleConfigLoader(str(conf), env="base", **arguments)
    assert loader["parameters"] == {"run": {"threads": 1}}


def test_what_base_takes_over_follows_an_environment_that_changes_it(conf: Path) -> None:
    write(
        conf, base__parameters="shared: {turns: 8, tasks: 24}\nown: ${shared}",
        test__parameters="shared: {turns: 3}",
    )  # fmt: skip
    loader = CurricleConfigLoader(
        str(conf), base_env="base", default_run_env="test",
        config_patterns=CONFIG_LOADER_ARGS["config_patterns"],
        merge_strategy=CONFIG_LOADER_ARGS["merge_strategy"],
    )  # fmt: skip
    assert loader["parameters"]["own"] == {"turns": 3, "tasks": 24}
