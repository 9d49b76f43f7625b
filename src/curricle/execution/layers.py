"""The layers of the grader, each a pure function from what is known to what it objects to.

Two of the nine reject nothing because they hold by construction: every run starts from the pristine
tree with our own tests and configuration, and every command is a fixed argument vector with a
scrubbed environment. The other seven are here, in the order in which `grade` asks them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from curricle.languages.backend import LanguageBackend
from curricle.languages.evaluation import Evaluation, TestStatus
from curricle.languages.project import Changes, Project, is_relative_inside
from curricle.languages.tasks import Patch

MAX_PATCH_BYTES = 256 * 1024
"""No honest repair of one function comes near it."""
_SLACK_S = 1.0


class Layer(StrEnum):
    """What can reject a patch."""

    POLICY = "patch_policy"
    """Only existing source files, as text, of bounded size."""
    SCAN = "scan"
    """Known hacks in what the patch adds."""
    FREEZE = "freeze"
    """Names and signatures that had to stay."""
    REPORT = "report"
    """A whole report that agrees with the exit status, within the limits."""
    CANARIES = "canaries"
    """Tests of known outcome in the same process."""
    EXPECTED = "expected_tests"
    """Every test that has to pass was run and did pass."""
    HELDOUT = "heldout_tests"
    """So did failing tests that nobody was shown."""
    COMPARISON = "comparison"
    """The function does what the original does, on inputs that no test has."""
    REPEAT = "repeat"
    """A second run, of every test, with other canaries, agrees."""


@dataclass(frozen=True)
class Rejection:
    """One layer's objection, in a sentence."""

    layer: Layer
    reason: str


def check_policy(patch: Patch, allowed: Collection[str]) -> list[Rejection]:
    """Only existing source files may change, and only to text of a bounded size.

    Links need no rule of their own: a patch is text for a path, and a path that is a link in the
    pristine tree is no source file.
    """
    reasons = []
    for file, text in patch.changes.items():
        if not is_relative_inside(file):
            reasons.append(f"{file!r} is not a path inside the project")
        elif file not in allowed:
            reasons.append(f"{file} is not a source file that a patch may change")
        elif text is None:
            reasons.append(f"{file} may not be deleted")
        elif "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            reasons.append(f"{file} is not text")
    size = sum(len(text.encode("utf-8", "replace")) for text in patch.changes.values() if text)
    if size > MAX_PATCH_BYTES:
        reasons.append(f"the patch has {size} bytes, more than {MAX_PATCH_BYTES}")
    if not patch.changes:
        reasons.append("the patch changes nothing")
    return [Rejection(Layer.POLICY, reason) for reason in reasons]


def allowed_files(backend: LanguageBackend, project: Project) -> frozenset[str]:
    """The source files of a project less those that are protected."""
    protected = project.files(tuple(backend.protected_paths(project)))
    return frozenset(project.files(project.sources)) - frozenset(protected)


def candidate_changes(
    backend: LanguageBackend,
    project: Project,
    broken: Changes,
    patch: Patch,
    allowed: Collection[str],
) -> dict[str, str | None]:
    """The broken tree with a patch over it, protected items put back; only allowed files change."""
    changes = dict(broken)
    for file, text in patch.changes.items():
        if file in allowed and text is not None:
            changes[file] = backend.restore(file, project.read(file), text)
    return changes


def check_text(backend: LanguageBackend, project: Project, changes: Changes) -> list[Rejection]:
    """What the scan and the signature freeze say of every changed file."""
    found = []
    for file, text in changes.items():
        if text is None:
            continue
        pristine = project.read(file)
        found += [Rejection(Layer.SCAN, f"{file}: {s}") for s in backend.scan(pristine, text)]
        found += [Rejection(Layer.FREEZE, f"{file}: {s}") for s in backend.freeze(pristine, text)]
    return found


def check_run(
    evaluation: Evaluation,
    canaries: Mapping[str, TestStatus],
    expected: Collection[str],
    heldout: Collection[str],
    comparing: Mapping[str, TestStatus] = MappingProxyType({}),
) -> list[Rejection]:
    """What one run of the tests shows.

    Args:
        evaluation: The run.
        canaries: Ids of canaries and the only status that each may have.
        expected: Ids that must pass, visible to a candidate.
        heldout: Ids that must pass, never shown.
        comparing: Ids of tests that compare with the original, and their only status.
    """
    return [
        *_check_report(evaluation, {*canaries, *expected, *heldout, *comparing}),
        *_check_statuses(evaluation, Layer.CANARIES, canaries),
        *_check_passed(evaluation, Layer.EXPECTED, expected),
        *_check_passed(evaluation, Layer.HELDOUT, heldout),
        *_check_statuses(evaluation, Layer.COMPARISON, comparing),
    ]


def _check_report(evaluation: Evaluation, asked: Collection[str]) -> Iterator[Rejection]:
    if not evaluation.complete:
        yield Rejection(Layer.REPORT, evaluation.note or "the run is not complete")
    elif strangers := sorted(evaluation.tests.keys() - set(asked)):
        yield Rejection(Layer.REPORT, f"{len(strangers)} tests nobody asked for: {strangers[0]}")
    # A report that claims more time than there was has been written by somebody else.
    claimed = sum(result.duration_s for result in evaluation.tests.values())
    if claimed > evaluation.duration_s + _SLACK_S or any(
        result.duration_s < 0 for result in evaluation.tests.values()
    ):
        yield Rejection(
            Layer.REPORT, f"tests of {claimed:.1f} s in a run of {evaluation.duration_s:.1f} s"
        )


def _check_statuses(
    evaluation: Evaluation, layer: Layer, wanted: Mapping[str, TestStatus]
) -> Iterator[Rejection]:
    for test, status in wanted.items():
        found = evaluation.tests.get(test)
        if found is None or found.status is not status:
            shown = "did not run" if found is None else found.status.value
            yield Rejection(layer, f"{test} had to end {status.value}, {shown}")
            return


def _check_passed(
    evaluation: Evaluation, layer: Layer, wanted: Collection[str]
) -> Iterator[Rejection]:
    missing = sorted(set(wanted) - evaluation.passed)
    if missing:
        result = evaluation.tests.get(missing[0])
        shown = "did not run" if result is None else result.status.value
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield Rejection(layer, f"{missing[0]} {shown}{more}")
