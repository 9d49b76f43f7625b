"""The store: every expensive result is made once and found again by what decided it.

``Store.obtain`` is the one way to a result. It returns a valid stored one at once, resumes an
interrupted one, or makes a new one and says which key of its identity changed. A result is written
to a partial folder, its manifest last, and then renamed: a folder without a valid manifest does
not exist for anybody.

Layout, for the step ``pretrain.train``::

    <root>/pretrain.train/.lock                  held while somebody builds this step
    <root>/pretrain.train/<fingerprint>/         immutable, manifest.json inside
    <root>/pretrain.train/<fingerprint>.partial/ result/ and resume/ of an unfinished build
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curricle.checkpoints.hashing import hash_value
from curricle.checkpoints.manifest import (
    MANIFEST_NAME,
    Manifest,
    describe_files,
    fsync_folder,
    read_manifest,
    verify_folder,
    write_manifest,
)
from curricle.errors import StageBusy, StoreError

logger = logging.getLogger(__name__)

_FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class Stored:
    """A small handle on a stored result; nodes pass these, never a model.

    Attributes:
        step: name of the step that made it.
        fingerprint: hash of all that decided it.
        digest: hash of the result itself (the manifest without what was measured).
        path: the folder.
    """

    step: str
    fingerprint: str
    digest: str
    path: Path

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            StoreError: the folder lost its manifest.
        """
        manifest = read_manifest(self.path)
        if manifest is None:
            raise StoreError(f"{self.path} has no readable manifest. Run the stage again.")
        return manifest


@dataclass(frozen=True)
class Built:
    """What a build reports beside its files: see ``Manifest`` for the meaning of the fields."""

    effective: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


Build = Callable[[Path, Path], Built]
"""``build(result, resume)`` fills ``result``; ``resume`` survives an interruption."""


_ONLY_STORED: ContextVar[bool] = ContextVar("only_stored", default=False)


class NotStored(Exception):
    """A result that :func:`only_stored` would have had to build; never leaves a plan."""


@contextmanager
def only_stored() -> Iterator[None]:
    """Within the block ``Store.obtain`` finds results and builds none: for plans."""
    token = _ONLY_STORED.set(True)
    try:
        yield
    finally:
        _ONLY_STORED.reset(token)


class Store:
    """Content-addressed results below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def obtain(self, step: str, identity: dict[str, Any], build: Build) -> Stored:
        """Return the result of ``step`` for ``identity``; build it when it is not there.

        Args:
            step: name of the step; one folder each.
            identity: JSON-able; everything that decides the result and nothing that does not.
            build: called with the folder to fill and the folder whose content survives an
                interruption.

        Raises:
            StageBusy: another process is building this step.
            StoreError: the disk is full or read-only, or a stored file was edited.
            NotStored: it is not there, within :func:`only_stored`.
        """
        fingerprint = hash_value(identity)[:_FINGERPRINT_DIGITS]
        stored = self.find(step, fingerprint)
        if stored is not None:
            logger.info("%s: reused %s, nothing that decides it changed", step, fingerprint)
            self._remove_leftovers(stored)
            return stored
        if _ONLY_STORED.get():
            raise NotStored(step)
        with self._writable(), self._lock(step):
            # Whoever held the lock before us may have just finished this very result.
            return self.find(step, fingerprint) or self._build(step, fingerprint, identity, build)

    def find(self, step: str, fingerprint: str) -> Stored | None:
        """Return a stored result whose files are all as they were written, else ``None``.

        Raises:
            StoreError: the result is there but somebody edited it.
        """
        folder = self.root / step / fingerprint
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        verify_folder(folder, manifest)
        return Stored(step, fingerprint, manifest.digest, folder)

    def results(self, step: str) -> list[Stored]:
        """List the finished results of a step, oldest first, without hashing their files."""
        found = []
        for folder in sorted(self._folders(step), key=lambda path: path.stat().st_mtime):
            if (manifest := read_manifest(folder)) is not None:
                found.append(Stored(step, folder.name, manifest.digest, folder))
        return found

    def remove(self, stored: Stored) -> None:
        """Delete a result that nothing needs.

        Raises:
            StageBusy: another process is building this step.
        """
        with self._lock(stored.step):
            # Without its manifest it does not exist, however far the deletion gets.
            (stored.path / MANIFEST_NAME).unlink(missing_ok=True)
            shutil.rmtree(stored.path)

    def steps(self) -> list[str]:
        """List the names of the steps that have a folder."""
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())

    def _folders(self, step: str) -> list[Path]:
        folder = self.root / step
        if not folder.is_dir():
            return []
        return [path for path in folder.iterdir() if path.is_dir()]

    def _build(self, step: str, fingerprint: str, identity: dict[str, Any], build: Build) -> Stored:
        final = self.root / step / fingerprint
        partial = final.with_name(fingerprint + ".partial")
        result, resume = partial / "result", partial / "resume"
        if final.exists():  # without a valid manifest it does not exist for anybody
            logger.warning("%s: %s has no valid manifest; it is made anew", step, fingerprint)
            shutil.rmtree(final)
        self._say_why(step, identity, interrupted=partial.exists())
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir(parents=True)
        resume.mkdir(exist_ok=True)

        built = build(result, resume)
        manifest = Manifest(
            step=step,
            fingerprint=fingerprint,
            identity=identity,
            files=describe_files(result),
            effective=built.effective,
            versions=built.versions,
            measured=built.measured,
        )
        write_manifest(result, manifest)
        result.rename(final)
        fsync_folder(final.parent)
        shutil.rmtree(partial)
        return Stored(step, fingerprint, manifest.digest, final)

    def _remove_leftovers(self, stored: Stored) -> None:
        """Finish what a build did not that was killed just after its result had its name."""
        partial = stored.path.with_name(stored.fingerprint + ".partial")
        if partial.exists():
            with self._writable(), self._lock(stored.step):
                shutil.rmtree(partial, ignore_errors=True)

    def _say_why(self, step: str, identity: dict[str, Any], interrupted: bool) -> None:
        if interrupted:
            logger.info("%s: continues what an interrupted run left", step)
            return
        earlier = self.results(step)
        if not earlier:
            logger.info("%s: nothing stored yet", step)
            return
        changed = changed_keys(earlier[-1].manifest().identity, identity)
        logger.info("%s: made anew beside %d earlier; changed since the last: %s",
                    step, len(earlier), ", ".join(changed))  # fmt: skip

    @contextmanager
    def _lock(self, step: str) -> Iterator[None]:
        folder = self.root / step
        folder.mkdir(parents=True, exist_ok=True)
        # The kernel drops the lock with its holder, so a killed run never leaves a stale one.
        with (folder / ".lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                raise StageBusy(
                    f"{step}: another run (process {stream.read().strip() or 'unknown'}) is "
                    f"working on this step in {folder}. Wait for it or stop it, then run again."
                ) from None
            stream.seek(0)
            stream.truncate()
            stream.write(str(os.getpid()))
            stream.flush()
            yield

    @contextmanager
    def _writable(self) -> Iterator[None]:
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            yield


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into an error that names the folder and the fix.

    Raises:
        StoreError: in place of the ``OSError``; any other one passes.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"The disk that holds {folder} is full ({error}). Nothing finished is lost: free "
                f"some room (`kedro curricle gc` lists what no checkpoint needs) and run again."
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StoreError(
                f"{folder} cannot be written ({error}). Mount it writable, mend its permissions, "
                f"or set another place: `data` in conf/base/globals.yml."
            ) from error
        raise


def changed_keys(before: Any, after: Any, prefix: str = "") -> list[str]:
    """Name the dotted keys in which two identities differ, in alphabetical order."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            key
            for name in sorted(before.keys() | after.keys())
            for key in changed_keys(before.get(name), after.get(name), f"{prefix}{name}.")
        ]
    return [] if before == after else [prefix.rstrip(".")]
