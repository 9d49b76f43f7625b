"""Projects become pristine trees, or are refused with a reason."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from curricle.checkpoints.hashing import hash_file
from curricle.config.tasks import ProjectSource
from curricle.errors import ConfigError, DataError
from curricle.execution.pristine import export_tree
from curricle.execution.projects import ListedProject, listed_project, obtain_project
from tests.execution.python_projects import BACKEND

ENOUGH = 10**8
MODULE = "def double(number):\n    return 2 * number\n"
TEST = "from tiny import double\n\n\ndef test_double():\n    assert double(2) == 4\n"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    root = tmp_path / "tiny"
    (root / "tests").mkdir(parents=True)
    (root / "tiny.py").write_text(MODULE)
    (root / "tests" / "test_tiny.py").write_text(TEST)
    (root / "LICENSE").write_text("MIT")
    return root


def obtained(source: ProjectSource, folder: Path, name: str = "tiny") -> ListedProject:
    return obtain_project(name, source, BACKEND, folder, folder / "downloads", ENOUGH)


def tree(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def git(folder: Path, *arguments: str) -> str:
    argv = ["git", "-c", "user.name=n", "-c", "user.email=e", *arguments]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_folder_is_exported_without_what_tools_and_builds_left(
    tiny: Path, tmp_path: Path
) -> None:
    for leftover in (
        ".git/config", "build/lib/tiny.py", "dist/tiny.whl", "tiny.egg-info/PKG-INFO",
        "__pycache__/tiny.cpython-311.pyc", "tests/old.pyc", "mutants/tiny.py", ".mutmut-cache",
        ".stryker-tmp/tiny.js", "mutants.out/outcomes.json", "target/debug/tiny", "tiny.py.orig",
    ):  # fmt: skip
        path = tiny / leftover
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MODULE)
    listed = obtained(ProjectSource(path=str(tiny)), tmp_path / "out")
    assert tree(listed.project.root) == {"tiny.py", "tests/test_tiny.py", "LICENSE"}


def test_the_layout_of_a_flat_project_is_found(tiny: Path, tmp_path: Path) -> None:
    project = obtained(ProjectSource(path=str(tiny)), tmp_path / "out").project
    assert project.sources == ("tiny.py",)
    assert project.files(project.tests) == ("tests/test_tiny.py",)
    assert project.options["import_root"] == "."


def test_the_layout_with_a_src_folder_is_found(tiny: Path, tmp_path: Path) -> None:
    (tiny / "src" / "tiny" / "tests").mkdir(parents=True)
    (tiny / "tiny.py").rename(tiny / "src" / "tiny" / "__init__.py")
    (tiny / "src" / "tiny" / "tests" / "test_inner.py").write_text(TEST)
    (tiny / "docs").mkdir()
    (tiny / "docs" / "conf.py").write_text("")
    project = obtained(ProjectSource(path=str(tiny)), tmp_path / "out").project
    assert project.sources == ("src/tiny/__init__.py",)
    assert project.options["import_root"] == "src"
    assert len(project.files(project.tests)) == 2


def test_what_the_list_says_overrides_what_is_found(tiny: Path, tmp_path: Path) -> None:
    source = ProjectSource(path=str(tiny), sources=("ti*.py",), options={"import_root": "x"})
    project = obtained(source, tmp_path / "out").project
    assert project.sources == ("ti*.py",)
    assert project.options["import_root"] == "x"


def test_a_listed_project_is_read_back_as_it_was(tiny: Path, tmp_path: Path) -> None:
    listed = obtained(ProjectSource(path=str(tiny), split="heldout"), tmp_path / "out")
    assert listed_project(listed.to_json(), tmp_path / "out") == listed


def test_a_source_distribution_is_known_by_its_hash_and_unpacked(
    tiny: Path, tmp_path: Path
) -> None:
    (tiny / "PKG-INFO").write_text("Name: tiny\nVersion: 1.5\n")
    archive = tmp_path / "tiny-1.5.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(tiny, "tiny-1.5")
    digest = hash_file(archive)
    downloads = tmp_path / "out" / "downloads"
    downloads.mkdir(parents=True)
    archive.rename(downloads / digest)
    source = ProjectSource(package="tiny", version="1.5", sha256=digest)
    listed = obtained(source, tmp_path / "out")
    assert listed.origin == "tiny==1.5"
    assert (listed.project.root / "tiny.py").read_text() == MODULE
    packages = Path(listed.project.options["packages"])
    assert (packages / "tiny-1.5.dist-info" / "METADATA").is_file()


def test_a_commit_is_exported_without_history_and_as_it_was(tiny: Path, tmp_path: Path) -> None:
    git(tiny, "init", "--quiet")
    git(tiny, "add", "--all")
    git(tiny, "commit", "--quiet", "--message", "first")
    commit = git(tiny, "rev-parse", "HEAD")
    (tiny / "tiny.py").write_text("broken")
    git(tiny, "commit", "--quiet", "--all", "--message", "second")
    root = obtained(ProjectSource(git=str(tiny), commit=commit), tmp_path / "out").project.root
    assert (root / "tiny.py").read_text() == MODULE
    assert not (root / ".git").exists()


def test_a_commit_that_is_not_there_is_refused(tiny: Path, tmp_path: Path) -> None:
    git(tiny, "init", "--quiet")
    source = ProjectSource(git=str(tiny), commit="0" * 40)
    with pytest.raises(DataError, match="cannot be fetched"):
        obtained(source, tmp_path / "out")


@pytest.mark.parametrize("aim", ["/etc/passwd", "../../outside"])
def test_a_symlink_out_of_the_tree_is_refused(tiny: Path, tmp_path: Path, aim: str) -> None:
    (tiny / "tests" / "escape").symlink_to(aim)
    with pytest.raises(DataError, match="tests/escape is a symlink out of the tree"):
        obtained(ProjectSource(path=str(tiny)), tmp_path / "out")
    assert not (tmp_path / "out" / "trees" / "tiny").exists()


def test_a_symlink_within_the_tree_stays_one(tiny: Path, tmp_path: Path) -> None:
    (tiny / "alias.py").symlink_to("tiny.py")
    export_tree(tiny, tmp_path / "out", ENOUGH)
    assert (tmp_path / "out" / "alias.py").is_symlink()


def test_a_project_with_too_many_bytes_is_refused(tiny: Path, tmp_path: Path) -> None:
    with (tiny / "large.bin").open("wb") as stream:
        stream.truncate(ENOUGH)
    with pytest.raises(DataError, match="more than 100,000,000 bytes"):
        obtained(ProjectSource(path=str(tiny)), tmp_path / "out")


def test_a_project_without_tests_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tiny / "tests" / "test_tiny.py").unlink()
    with pytest.raises(DataError, match="it has no tests"):
        obtained(ProjectSource(path=str(tiny)), tmp_path / "out")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "one of `path`, `package` and `git`"),
        ({"path": "a", "git": "b"}, "one of `path`, `package` and `git`"),
        ({"package": "a", "version": "1"}, "the `sha256`"),
        ({"git": "a", "commit": "main"}, "a full hash"),
        ({"path": "a", "requires": ["b>=1"]}, "is not pinned"),
    ],
)
def test_a_source_that_is_not_pinned_is_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises((ConfigError, ValidationError), match=reason):
        ProjectSource.model_validate(fields)
