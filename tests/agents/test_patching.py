from __future__ import annotations

import pytest

from curricle.agents.patching import apply_diff
from curricle.agents.refusal import Refused

FILES = {"a.py": "one\ntwo\nthree\nfour\n", "b.py": "x\nsame\ny\nsame\n"}


def patched(*lines: str, file: str = "a.py") -> dict[str, str]:
    return apply_diff("\n".join((f"--- a/{file}", f"+++ b/{file}", *lines, "")), FILES.__getitem__)


def test_hunks_are_applied_and_moved_to_their_lines() -> None:
    assert patched("@@ -1,2 +1,2 @@", " one", "-two", "+2") == {"a.py": "one\n2\nthree\nfour\n"}
    assert patched("@@ -9,2 +9,2 @@", " three", "-four", "+4") == {"a.py": "one\ntwo\nthree\n4\n"}


def test_several_hunks_keep_count_of_each_other() -> None:
    lines = ("@@ -1,1 +1,2 @@", "-one", "+1", "+1.5", "@@ -4,1 +5,1 @@", "-four", "+4")
    assert patched(*lines) == {"a.py": "1\n1.5\ntwo\nthree\n4\n"}


def test_a_hunk_without_old_lines_inserts_after_its_line() -> None:
    assert patched("@@ -1,0 +2,1 @@", "+new") == {"a.py": "one\nnew\ntwo\nthree\nfour\n"}


@pytest.mark.parametrize(
    ("lines", "kind", "says"),
    [
        (("@@ -1,3 +1,1 @@", "-one", "+1"), "malformed", "counts 3 old and 1 new"),
        (("@@ -1,1 +1,1 @@", "-one", "+1", "+2"), "malformed", "outside of a hunk"),
        (("@@ nonsense @@", "-one"), "malformed", "is not `@@ -L,N +L,N @@`"),
        (("-one", "+1"), "malformed", "outside of a hunk"),
        ((), "malformed", "it needs"),
        (("@@ -1,1 +1,1 @@", " one"), "malformed", "changes nothing"),
        (("@@ -1,1 +1,1 @@", "-1", "+one"), "absent", "does not apply"),
    ],
)
def test_a_malformed_patch_is_refused_with_its_reason(
    lines: tuple[str, ...], kind: str, says: str
) -> None:
    with pytest.raises(Refused) as refused:
        patched(*lines)
    assert refused.value.kind == kind and says in str(refused.value)


def test_a_moved_hunk_with_two_places_is_ambiguous() -> None:
    with pytest.raises(Refused, match="2 places"):
        patched("@@ -9,1 +9,1 @@", "-same", "+other", file="b.py")


def test_no_file_is_made_or_deleted() -> None:
    with pytest.raises(Refused, match="existing files"):
        apply_diff("--- /dev/null\n+++ b/new.py\n@@ -0,0 +1,1 @@\n+x\n", FILES.__getitem__)
