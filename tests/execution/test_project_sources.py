"""Source distributions come from the index by their hash; what that cannot do, pip does."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from curricle.checkpoints.hashing import hash_file
from curricle.config.tasks import ProjectSource
from curricle.errors import DataError
from curricle.execution import project_sources
from curricle.execution.project_sources import fetch

# A build backend in the tree itself, so that pip needs nothing else; it says that it ran.
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BUILT = """
from pathlib import Path
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    Path({marker!r}).touch()
    info = Path(folder, "tiny-1.5.dist-info")
    info.mkdir()
    Path(info, "METADATA").write_text("Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.5\\n")
    return info.name
def build_wheel(*_): raise RuntimeError
build_sdist = build_wheel
"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What is there once the package's own code ran."""
    return tmp_path / "built"


@pytest.fixture
def archive(tmp_path: Path, built: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.5\n")
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BUILT.format(marker=str(built)))
    path = tmp_path / "files" / "tiny-1.5.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as packed:
        packed.add(root, "tiny-1.5")
    return path


@pytest.fixture
def index(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page of `tiny` in the only index that pip knows."""
    page = tmp_path / "simple" / "tiny" / "index.html"
    page.parent.mkdir(parents=True)
    digest = hash_file(archive)
    page.write_text(f'<a href="../../files/{archive.name}#sha256={digest}">{archive.name}</a>')
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        project_sources._index.cache_clear()
        yield page
        server.shutdown()
    project_sources._index.cache_clear()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def pinned(archive: Path, **changed: str) -> ProjectSource:
    fields = {"package": "Tiny", "version": "1.5", "sha256": hash_file(archive), **changed}
    return ProjectSource.model_validate(fields)


def fetched(source: ProjectSource, tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return fetch(source, tmp_path / "downloads", folder)


@pytest.mark.usefixtures("index")
def test_the_index_is_asked_for_the_hash_and_nothing_of_the_package_runs(
    archive: Path, built: Path, tmp_path: Path
) -> None:
    root = fetched(pinned(archive), tmp_path)
    assert (root / "backend.py").is_file()
    assert hash_file(tmp_path / "downloads" / hash_file(archive)) == hash_file(archive)
    assert not built.exists()


def test_pip_finds_what_the_page_gives_no_hash_for(
    index: Path, archive: Path, built: Path, tmp_path: Path
) -> None:
    index.write_text(index.read_text().split("#", 1)[0] + '">')
    assert (fetched(pinned(archive), tmp_path) / "backend.py").is_file()
    assert built.exists()


def test_pip_finds_what_is_in_a_folder_of_files(
    index: Path, archive: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.unlink()
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert (fetched(pinned(archive), tmp_path) / "backend.py").is_file()
    assert built.exists()


@pytest.mark.usefixtures("index")
def test_a_file_that_is_not_what_its_hash_says_is_refused(archive: Path, tmp_path: Path) -> None:
    source = pinned(archive)
    archive.write_bytes(archive.read_bytes() + b"more")
    with pytest.raises(DataError, match="cannot be fetched"):
        fetched(source, tmp_path)


@pytest.mark.usefixtures("index")
def test_a_package_that_is_nowhere_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be fetched"):
        fetched(pinned(archive, package="absent"), tmp_path)
