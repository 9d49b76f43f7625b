"""Small functions over text."""

from textkit.cases import initials, to_camel, to_snake
from textkit.lines import indent, justify, wrap
from textkit.runs import decode_runs, encode_runs, longest_run

__all__ = [
    "decode_runs",
    "encode_runs",
    "indent",
    "initials",
    "justify",
    "longest_run",
    "to_camel",
    "to_snake",
    "wrap",
]
