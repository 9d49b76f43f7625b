"""Fetches projects: a folder, a source distribution by its hash, a commit.

The registry's own client fetches, so mirrors and credentials are the user's. It verifies the hash
before it looks into a file, and then asks the package for its metadata, as every installation of a
source distribution does: a pinned hash is the user's word that this package may do so.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from threading import get_ident

from curricle.checkpoints.hashing import hash_file
from curricle.config.tasks import ProjectSource
from curricle.errors import DataError

_FETCH_S = 300.0


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
        listed = Path(name, "requirements.txt")
        listed.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
        target = Path(name, "files")
        _pip("download", "--require-hashes", "--no-deps", "--no-binary=:all:",
             "--dest", str(target), "-r", str(listed))  # fmt: skip
        (file,) = target.iterdir()
        downloads.mkdir(parents=True, exist_ok=True)
        partial = downloads / f"{source.sha256}.{os.getpid()}.{get_ident()}.partial"
        shutil.copyfile(file, partial)
        partial.rename(kept)
    return kept


def _pip(*arguments: str) -> None:
    argv = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    _run(argv, "Look at the pinned version and hash, and whether the registry can be reached.")


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
