"""Applying a unified diff, and saying exactly what is wrong with one that does not apply."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from curricle.agents.refusal import Refused

_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NO_FILE = "/dev/null"


@dataclass(frozen=True)
class Hunk:
    """One change of a diff.

    Attributes:
        start: The line of the old text where it begins, counted from 1.
        old: The lines that must stand there, context included.
        new: The lines that take their place.
    """

    start: int
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class FileDiff:
    """All hunks of one file."""

    file: str
    hunks: tuple[Hunk, ...]


def parse_diff(diff: str) -> tuple[FileDiff, ...]:
    """Read a unified diff.

    Raises:
        Refused: It is none, adds or deletes a file, or a hunk does not have the lines that its
            header counts; kind `malformed`.
    """
    lines = diff.split("\n")
    files: list[FileDiff] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        if line.startswith("--- "):
            following = lines[index + 1] if index + 1 < len(lines) else ""
            if not following.startswith("+++ "):
                raise _malformed(f"line {index + 2}: `+++ b/FILE` must follow `--- a/FILE`")
            files.append(FileDiff(_file_name(line, following), ()))
            index += 2
        elif line.startswith("@@"):
            if not files:
                raise _malformed(f"line {index + 1}: a hunk before any `--- a/FILE`")
            hunk, index = _hunk(lines, index)
            files[-1] = FileDiff(files[-1].file, (*files[-1].hunks, hunk))
        elif line[:1] in ("+", "-", " ") and line.strip() and files:
            raise _malformed(f"line {index + 1}: outside of a hunk: its header counts fewer lines")
        else:
            index += 1
    if not files or not all(found.hunks for found in files):
        raise _malformed("it needs `--- a/FILE`, `+++ b/FILE` and `@@ -L,N +L,N @@` lines")
    return tuple(files)


def apply_diff(diff: str, read: Callable[[str], str]) -> dict[str, str]:
    """The new texts of the files that a diff changes.

    A hunk whose lines stand elsewhere is moved there, if that is the only place.

    Args:
        diff: A unified diff.
        read: Gives a file's text; refuses what may not be changed.

    Raises:
        Refused: The diff is malformed, or a hunk's lines are not in the file, or in several places.
    """
    texts: dict[str, str] = {}
    for changed in parse_diff(diff):
        text = texts.get(changed.file, None)
        lines = (read(changed.file) if text is None else text).split("\n")
        shift = 0
        for number, hunk in enumerate(changed.hunks, start=1):
            at = _place(lines, hunk, hunk.start - 1 + shift, f"{changed.file}: hunk {number}")
            lines[at : at + len(hunk.old)] = hunk.new
            shift += len(hunk.new) - len(hunk.old)
        texts[changed.file] = "\n".join(lines)
    return texts


def _file_name(old: str, new: str) -> str:
    names = [line[4:].split("\t")[0].strip() for line in (old, new)]
    if _NO_FILE in names:
        raise Refused("a patch may only change existing files.", "malformed")
    return names[1].removeprefix("b/")


def _hunk(lines: list[str], index: int) -> tuple[Hunk, int]:
    match = _HUNK.match(lines[index])
    if match is None:
        raise _malformed(f"line {index + 1}: {lines[index][:40]!r} is not `@@ -L,N +L,N @@`")
    start, old_count, new_count = (
        int(match[1]), int(match[2] or 1), int(match[4] or 1)
    )  # fmt: skip
    old: list[str] = []
    new: list[str] = []
    at = index + 1
    while at < len(lines) and (len(old) < old_count or len(new) < new_count):
        mark, content = lines[at][:1], lines[at][1:]
        if mark == "\\":  # "\ No newline at end of file"
            at += 1
            continue
        if mark not in ("", " ", "-", "+"):
            break
        if mark != "+":
            old.append(content)
        if mark != "-":
            new.append(content)
        at += 1
    if (len(old), len(new)) != (old_count, new_count):
        raise _malformed(
            f"line {index + 1}: the header counts {old_count} old and {new_count} new lines, "
            f"the hunk has {len(old)} and {len(new)}"
        )
    if old == new:
        raise _malformed(f"line {index + 1}: the hunk changes nothing")
    return Hunk(start, tuple(old), tuple(new)), at


def _place(lines: list[str], hunk: Hunk, expected: int, where: str) -> int:
    size = len(hunk.old)
    if size == 0:
        return max(0, min(expected + 1, len(lines)))
    if tuple(lines[expected : expected + size]) == hunk.old:
        return expected
    found = [at for at in range(len(lines) - size + 1) if tuple(lines[at : at + size]) == hunk.old]
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{where}: its lines stand in {len(found)} places.", "ambiguous")
    missing = next((line for line in hunk.old if line not in lines), hunk.old[0])
    raise Refused(f"{where} does not apply: the file has no {missing.strip()!r} there.", "absent")


def _malformed(reason: str) -> Refused:
    return Refused(f"malformed patch: {reason}.", "malformed")
