"""Language plugins are found, and one that is broken is named and stops no other."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from curricle.errors import ConfigError
from curricle.languages.registry import (
    get_backend,
    installed_plugins,
    plugin_conf,
    working_backends,
)
from tests.plugins.toy import BACKEND, write_plugin
from tests.plugins.uninstalled import write_metadata

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Writes a plugin project and puts it on the path, with its metadata."""

    def write(name: str, distribution: str = "", **files: str) -> None:
        folder = tmp_path / (distribution or name)
        project = write_plugin(folder, name, **files)
        if distribution:
            pyproject = project / "pyproject.toml"
            text = pyproject.read_text()
            pyproject.write_text(text.replace(f'"curricle-{name}"', f'"{distribution}"'))
        site = folder / "site"
        site.mkdir()
        monkeypatch.syspath_prepend(write_metadata(project / "pyproject.toml", site))
        monkeypatch.syspath_prepend(str(site))

    return write


def test_the_plugin_of_this_repository_is_there() -> None:
    assert get_backend("python").name == "python"
    assert "python" in working_backends()


def test_an_installed_plugin_is_found_with_its_configuration(install: Install) -> None:
    install("toy")
    (toy,) = [plugin for plugin in installed_plugins() if plugin.name == "toy"]
    assert (toy.distribution, toy.version) == ("curricle-toy", "0.3.0")
    assert get_backend("toy").name == "toy"
    assert {"python", "toy"} <= set(working_backends())
    conf = plugin_conf()["curricle-toy"]
    assert (conf / "base" / "parameters" / "toy.yml").is_file()


def test_naming_plugins_imports_none(install: Install) -> None:
    install("slow", backend="raise SystemExit('imported')")
    assert "slow" in {plugin.name for plugin in installed_plugins()}


def test_importing_every_plugin_imports_nothing_heavy() -> None:
    program = (
        "import sys; from curricle.languages.registry import working_backends; "
        "assert 'python' in working_backends(); "
        "print({'torch', 'transformers', 'mypy', 'pytest', 'hypothesis', 'kedro', 'pandas'} "
        "& set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()"


def test_a_language_that_is_not_installed_names_what_is() -> None:
    with pytest.raises(ConfigError, match=r"there is .*python.* pip install curricle-fortran"):
        get_backend("fortran")
    with pytest.raises(ConfigError, match=r"Did you mean 'python'\?"):
        get_backend("pyhton")


BROKEN = {
    "no module": ({"backend": "import no_such_module"}, r"ModuleNotFoundError: .*no_such_module"),
    "no class": ({"backend": "x = 1"}, r"cannot be imported: AttributeError"),
    "defect": ({"backend": "1 / 0"}, r"cannot be imported: ZeroDivisionError"),
    "wrong class": ({"backend": "class ToyBackend: pass"}, r"no subclass of LanguageBackend"),
    "instance": ({"backend": "ToyBackend = 3"}, r"no subclass of LanguageBackend"),
    "wrong api": (
        {"backend": BACKEND.format(name="broken").replace("    name =", "    api = 2\n    name =")},
        r"written for api 2, this curricle has api 1",
    ),
    "wrong name": ({"backend": BACKEND.format(name="other")}, r"names the language 'other'"),
    "no name": (
        {"backend": BACKEND.format(name="broken").replace("    name =", "    nane =")},
        r"names the language None",
    ),
    "unfinished": (
        {"backend": BACKEND.format(name="broken").replace("def parse", "def perse")},
        r"cannot be made: .*abstract.* parse",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_named_and_stops_no_other(
    kind: str, install: Install, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, why = BROKEN[kind]
    for module in ("curricle_broken", "curricle_broken.backend"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    install("broken", f"curricle-broken-{kind.replace(' ', '-')}", **files)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert "broken" not in working_backends() and "python" in working_backends()
            assert "curricle-broken" not in plugin_conf()
    (warning,) = caplog.messages
    assert "its pipelines are left out" in warning
    with pytest.raises(ConfigError, match=why) as raised:
        get_backend("broken")
    for message in (warning, str(raised.value)):
        assert f"remove it: pip uninstall curricle-broken-{kind.replace(' ', '-')}" in message


def test_a_language_that_two_distributions_claim_belongs_to_neither(install: Install) -> None:
    install("twice", "curricle-twice")
    install("twice", "other-twice")
    assert "twice" not in working_backends()
    with pytest.raises(ConfigError, match="claimed by curricle-twice and other-twice"):
        get_backend("twice")


def test_a_name_that_no_pipeline_can_carry_is_refused(install: Install) -> None:
    install("c-sharp", backend="")
    with pytest.raises(ConfigError, match="use a-z, 0-9 and _"):
        get_backend("c-sharp")
