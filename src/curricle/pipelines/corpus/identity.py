"""What the sources are before they are read: their part of the fingerprint of a corpus.

Parameters name a folder; what decides the corpus is what lies in it.
"""

import hashlib
import platform
from pathlib import Path

from curricle.config.corpus import IngestParameters, SourceParameters
from curricle.errors import DataError
from curricle.pipelines.corpus.python_distribution import library_files, library_root
from curricle.pipelines.corpus.readers import list_files

_BLOCK_BYTES = 1 << 20


def source_identities(parameters: IngestParameters) -> list[str]:
    """One string for each source that changes whenever the source does, and never otherwise.

    Files on this machine are hashed (about 1 GB/s); the Python distribution is known by its version
    and the sizes of its files; a dataset on a hub by its revision.

    Raises:
        DataError: a local source does not exist.
    """
    return [_identity(source) for source in parameters.sources]


def _identity(source: SourceParameters) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if source.kind == "python_distribution":
        root = library_root()
        for name in library_files(source.include_tests):
            digest.update(f"{name}\0{(root / name).stat().st_size}\n".encode())
        return f"python {platform.python_version()} {digest.hexdigest()}"
    if not source.is_local:
        return f"{source.path}@{source.revision}"
    root = Path(source.path or "").expanduser()
    if not root.exists():
        raise DataError(f"{root}: no such source. Correct `path` of the corpus source.")
    if source.kind == "folder":
        names = list_files(source)
    else:
        names = sorted(
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()
        )
    for name in names:
        path = root / name
        digest.update(f"{name}\0{path.stat().st_size}\n".encode())
        with path.open("rb") as content:
            while block := content.read(_BLOCK_BYTES):
                digest.update(block)
    return f"{source.kind} {digest.hexdigest()}"
