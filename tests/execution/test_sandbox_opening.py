"""How a sandbox is chosen, probed and refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from curricle.config.execution import Limits, SandboxParameters
from curricle.errors import InfrastructureFault, SandboxUnavailable
from curricle.execution import opening
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.contract import make_ground
from curricle.execution.opening import open_sandbox
from curricle.execution.probe import probe, probe_once
from curricle.execution.unsafe_local import UnsafeLocalSandbox
from curricle.execution.wall import bwrap_path, is_root
from curricle.languages.commands import Command
from curricle.languages.project import Prepared, Project
from tests.execution.plain_user import REPOSITORY, as_plain_user

OPEN = """
from curricle.config.execution import SandboxParameters
from curricle.execution.opening import open_sandbox
from curricle.execution.probe import probe
with open_sandbox(SandboxParameters()) as sandbox:
    print(probe(sandbox))
"""
FORBID = "echo 0 > /proc/sys/user/max_user_namespaces"


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_default_sandbox_holds_here(own_memory: Path) -> None:
    with open_sandbox(SandboxParameters()) as sandbox:
        assert sandbox.name == "bubblewrap"
    assert len(list(own_memory.rglob("*.json"))) == 1


def test_a_probe_that_held_is_remembered_until_the_next_boot(
    own_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BubblewrapSandbox() as sandbox:
        first = probe_once(sandbox, bwrap_path())
        monkeypatch.setattr(sandbox, "run", None)  # it would fail if it were asked again
        assert probe_once(sandbox, bwrap_path()) == first


def test_a_plain_user_gets_the_same_sandbox(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = as_plain_user([sys.executable, "-c", OPEN], home, 120)
    assert done.returncode == 0, done.stderr
    assert "failures=()" in done.stdout


@pytest.mark.verify
def test_a_plain_user_keeps_the_contract_and_nothing_escapes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tests = ["tests/execution/test_sandbox.py", "tests/adversarial/escape"]
    argv = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"]
    argv += [f"--rootdir={REPOSITORY}", *(str(REPOSITORY / test) for test in tests)]
    done = as_plain_user(argv, home, 1200)
    assert done.returncode == 0, done.stdout[-5000:]


def test_without_user_namespaces_it_refuses_and_says_what_to_do(tmp_path: Path) -> None:
    # In a user namespace of its own, whose limit is its own too.
    script = f"{FORBID}; exec {sys.executable} -c '{OPEN}'"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    message = done.stderr.strip()
    assert "SandboxUnavailable" in message
    for part in ("Failed: start:", "max_user_namespaces", "apparmor_parser", "runsc"):
        assert part in message


class _Leaky(UnsafeLocalSandbox):
    """Claims what it does not give."""

    name = "leaky"


def test_a_sandbox_that_leaks_is_found_out() -> None:
    with _Leaky() as sandbox:
        failures = " ".join(probe(sandbox).failures)
    for subject in ("network", "files", "limits", "processes"):
        assert f"{subject}:" in failures


def test_a_refusal_never_ends_in_something_weaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_sandbox", lambda backend: (_Leaky(), bwrap_path()))
    parameters = SandboxParameters(min_level="none")
    with pytest.raises(SandboxUnavailable, match="so nothing is run"):
        open_sandbox(parameters)


def test_unsafe_local_needs_the_level_and_the_acknowledgement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CURRICLE_UNSAFE", raising=False)
    with pytest.raises(SandboxUnavailable, match="CURRICLE_UNSAFE=i-know"):
        open_sandbox(SandboxParameters(backend="unsafe_local", min_level="none"))
    monkeypatch.setenv("CURRICLE_UNSAFE", "i-know")
    with pytest.raises(SandboxUnavailable, match="min_level: none"):
        open_sandbox(SandboxParameters(backend="unsafe_local"))
    with open_sandbox(SandboxParameters(backend="unsafe_local", min_level="none")) as sandbox:
        assert sandbox.name == "unsafe_local"


def test_what_runs_without_isolation_says_so_on_its_record(tmp_path: Path) -> None:
    ground = make_ground(tmp_path)
    with UnsafeLocalSandbox() as sandbox:
        output = sandbox.run(
            Command(("/bin/sh", "-c", "cat src/answer.py; cat $C/deep/built; echo {} > $R/a"),
                    env={"C": "/cache", "R": "/report"}, reports=("a",)),
            ground.prepared, {"src/answer.py": "new\n"}, Limits(),
        )  # fmt: skip
    assert output.stdout == "new\nbuilt\n"
    assert dict(output.reports) == {"a": "{}\n"}
    assert output.isolation.backend == "unsafe_local"
    assert output.isolation.level == "none"


def test_a_tree_that_cannot_be_shown_is_an_error_and_no_result() -> None:
    project = Project("proc", "python", Path("/proc/sys"), "x", (), ())
    with (
        BubblewrapSandbox() as sandbox,
        pytest.raises(SandboxUnavailable if is_root() else InfrastructureFault) as caught,
    ):
        sandbox.run(Command(("/bin/true",)), Prepared(project, None, "x"), {}, Limits())
    if is_root():
        assert "start curricle as a plain user" in str(caught.value)
