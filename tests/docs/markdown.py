"""The pages of the documentation, as tests read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGES = (PROJECT / "README.md", PROJECT / "conf/README.md", *sorted(PROJECT.glob("docs/*.md")))

_FENCE = re.compile(r"^```(\w*) ?(\w*)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the name after it, and its lines."""

    language: str
    name: str
    text: str


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    return tuple(Block(*match.groups()) for match in _FENCE.finditer(page.read_text()))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())
