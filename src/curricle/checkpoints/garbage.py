"""Which stored results nothing needs any more.

Needed is what a certificate (current or archived) or a current handle names, all that those were
made from, and what was measured on them. When in doubt a result is kept: every digest that stands
in any JSON file of the data folders counts as a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from curricle.checkpoints.lineage import input_digests, stored_by_digest
from curricle.checkpoints.store import Store, Stored

_DIGEST = re.compile(r'"([0-9a-f]{64})"')


def unreachable(store: Store, data_folders: Iterable[Path]) -> list[Stored]:
    """List the results of ``store`` that nothing below ``data_folders`` can reach.

    Args:
        store: the store.
        data_folders: every folder that may hold certificates and handles, those of other
            environments included.
    """
    index = stored_by_digest(store)
    inputs = {digest: input_digests(stored.manifest()) for digest, stored in index.items()}
    reached = _closure({d for d in named_digests(data_folders, store.root) if d in index}, inputs)
    # What was measured on a candidate is found again only by the candidate that it names.
    reached |= {d for d, names in inputs.items() if names.get("candidate") in reached}
    return [stored for digest, stored in index.items() if digest not in reached]


def named_digests(folders: Iterable[Path], store: Path) -> set[str]:
    """Return every digest in the JSON files of ``folders``, the store itself left out."""
    found: set[str] = set()
    for folder in folders:
        for path in folder.rglob("*.json"):
            if store not in path.parents:
                found |= set(_DIGEST.findall(path.read_text(errors="replace")))
    return found


def size_bytes(stored: Stored) -> int:
    """Return what a stored result takes on disk."""
    return sum(int(file["bytes"]) for file in stored.manifest().files.values())


def _closure(roots: set[str], inputs: dict[str, dict[str, str]]) -> set[str]:
    reached, waiting = set(roots), list(roots)
    while waiting:
        for digest in inputs.get(waiting.pop(), {}).values():
            if digest not in reached:
                reached.add(digest)
                waiting.append(digest)
    return reached
