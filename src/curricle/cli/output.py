"""Where lines go: on a terminal rich wraps and colours them, in a file each is one plain line."""

from __future__ import annotations

import logging
import sys

from rich.logging import RichHandler

_LINE = "%(asctime)s %(levelname)-7s %(message)s"


def plain_lines_unless_terminal() -> None:
    """Replace rich's handler where nobody is watching: it would wrap every line at 80 columns."""
    root = logging.getLogger()
    if sys.stdout.isatty():
        return
    for handler in [h for h in root.handlers if isinstance(h, RichHandler)]:
        plain = logging.StreamHandler(sys.stdout)
        plain.setFormatter(logging.Formatter(_LINE, "%H:%M:%S"))
        plain.setLevel(handler.level)
        root.removeHandler(handler)
        root.addHandler(plain)
