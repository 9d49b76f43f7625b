"""Why an attempt did not fix its bug, in the words that tell what to teach next."""

from __future__ import annotations

from enum import StrEnum

from curricle.agents.records import INVALID_CALLS, Ending, SessionRecord
from curricle.languages.project import Project
from curricle.languages.tasks import BugTask

EDITS = frozenset({"edit", "apply_patch"})


class Failure(StrEnum):
    """A kind of failure."""

    INFRASTRUCTURE = "infrastructure"
    """The machine failed: masked, no failure of the agent."""
    INVALID_CALL = "invalid_call"
    """Nothing was changed, and calls could not be read or did not fit their schema."""
    MISCOPIED = "miscopied"
    """Nothing was changed: the text to replace was absent, ambiguous or the same."""
    NO_EDIT = "no_edit"
    """Nothing was changed, and it was not even tried."""
    UNDONE = "undone"
    """What was changed was put back."""
    WRONG_LINE = "wrong_line"
    """Another line was changed."""
    WRONG_FIX = "wrong_fix"
    """The right line was changed, and not to what passes."""


def failure_of(task: BugTask, project: Project, record: SessionRecord) -> Failure:
    """The kind of an attempt that is known not to have fixed its task.

    Args:
        task: The bug.
        project: Its pristine project.
        record: The finished session.
    """
    if record.ending is Ending.INFRASTRUCTURE:
        return Failure.INFRASTRUCTURE
    file = task.mutant.file
    changes = record.patch.changes or record.tried
    if not changes:
        return _without_change(record)
    candidate = changes.get(file)
    if candidate is None:
        return Failure.WRONG_LINE
    broken = str(task.broken(project)[file])
    bug = changed_lines(broken, project.read(file))
    changed = changed_lines(broken, candidate)
    # Where lines are missing, the bug has no line: then its neighbours are the right place.
    near = range(bug.start - 1, bug.stop + 1) if not bug else bug
    touched = changed or range(changed.start - 1, changed.start + 1)
    overlap = max(near.start, touched.start) < min(near.stop, touched.stop)
    return Failure.WRONG_FIX if overlap else Failure.WRONG_LINE


def changed_lines(before: str, after: str) -> range:
    """The lines of `before` from the first to the last that differ, counted from 1."""
    old, new = before.split("\n"), after.split("\n")
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    old_end, new_end = len(old), len(new)
    while old_end > start and new_end > start and old[old_end - 1] == new[new_end - 1]:
        old_end -= 1
        new_end -= 1
    return range(start + 1, old_end + 1)


def _without_change(record: SessionRecord) -> Failure:
    edits = [call for call in record.calls if call.tool in EDITS and call.is_valid]
    if any(call.outcome in ("ok", "failed") for call in edits):
        return Failure.UNDONE
    if edits:
        return Failure.MISCOPIED
    invalid = any(call.outcome in INVALID_CALLS for call in record.calls)
    return Failure.INVALID_CALL if invalid else Failure.NO_EDIT
