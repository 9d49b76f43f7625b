"""Where a Python project keeps its sources and tests, by the customs of packaging."""

from __future__ import annotations

from pathlib import PurePosixPath

from curricle.languages import DataError, Layout, Project

_TEST_FOLDERS = frozenset({"test", "tests", "testing"})
_OTHER_FOLDERS = frozenset(
    {"docs", "doc", "examples", "example", "benchmarks", "bench", "tools", "scripts", "misc",
     "_vendor"}
)  # fmt: skip
_OTHER_FILES = frozenset({"setup.py", "conftest.py", "noxfile.py", "tasks.py", "fabfile.py"})


def find_layout(project: Project) -> Layout:
    """Sources as single files, tests as globs, and the folder that imports start from.

    Raises:
        DataError: There is no package and no module.
    """
    files = [PurePosixPath(file) for file in project.files(("**/*.py",))]
    nested = any(file.parts[0] == "src" for file in files)
    root = "src" if nested else "."
    sources = [
        file.as_posix() for file in files if not _is_test(file) and _is_source(file, files, nested)
    ]
    if not sources:
        raise DataError(
            f"{project.name}: no Python package or module found. Set the project's `sources`."
        )
    tests = sorted({_test_glob(file) for file in files if _is_test(file)})
    return Layout(tuple(sources), tuple(tests), {"import_root": root})


def _is_test(file: PurePosixPath) -> bool:
    name = file.name
    return (
        bool(_TEST_FOLDERS & set(file.parts[:-1]))
        or name.startswith("test_")
        or name.endswith("_test.py")
        or name == "conftest.py"
    )


def _is_source(file: PurePosixPath, files: list[PurePosixPath], nested: bool) -> bool:
    if _OTHER_FOLDERS & set(file.parts[:-1]):
        return False
    if nested:
        return file.parts[0] == "src"
    if len(file.parts) == 1:
        return file.name not in _OTHER_FILES
    return PurePosixPath(file.parts[0], "__init__.py") in files


def _test_glob(file: PurePosixPath) -> str:
    """All of the test folder that holds a file, whatever its kind; else the file alone."""
    for depth, part in enumerate(file.parts[:-1], start=1):
        if part in _TEST_FOLDERS:
            return PurePosixPath(*file.parts[:depth], "**/*").as_posix()
    return file.as_posix()
