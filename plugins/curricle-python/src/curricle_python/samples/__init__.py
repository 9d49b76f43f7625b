"""Three small projects of our own, one for each split: a curriculum needs nothing else to start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent

SAMPLES: tuple[Mapping[str, Any], ...] = (
    {
        "name": "textkit",
        "split": "train",
        "path": str(_FOLDER / "textkit"),
        "sources": ["src/textkit/*.py"],
        "tests": ["tests/**/*.py"],
        "options": {"import_root": "src"},
    },
    {
        "name": "intervals",
        "split": "heldout",
        "path": str(_FOLDER / "intervals"),
        "sources": ["intervals.py"],
        "tests": ["tests/**/*.py"],
        "options": {"import_root": "."},
    },
    {
        "name": "ledger",
        "split": "tui",
        "path": str(_FOLDER / "ledger"),
        "sources": ["ledger.py"],
        "tests": ["tests/**/*.py"],
        "options": {"import_root": "."},
    },
)
"""As the `projects` parameter takes them."""
