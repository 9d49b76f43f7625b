"""From finished attempts to a report: rates with intervals, beside what needs no model.

The grader decides what is fixed; nothing here executes. Every rate stands beside the no-op, the
oracle and the best rule, over the same tasks, and attempts that the machine spoiled are masked and
counted, never scored.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curricle.agents.failures import Failure, failure_of
from curricle.agents.records import Message, SessionRecord
from curricle.agents.statistics import (
    Comparison,
    Rate,
    compare,
    mean_rate,
    pass_at_k,
    wilson_rate,
)
from curricle.languages.commands import Level
from curricle.languages.evaluation import Evaluation
from curricle.languages.project import Project
from curricle.languages.tasks import BugTask


@dataclass(frozen=True)
class Verdict:
    """What the grader says of a patch.

    Attributes:
        fixed: Whether it fixes the task; `None` when the machine failed to tell.
        clean: Level to whether the patched tree has no findings that the original has not; `None`
            when not measured.
        fault: Why the machine failed to tell; empty when it told.
    """

    fixed: bool | None
    clean: Mapping[Level, bool | None] = field(default_factory=dict)
    fault: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form that `from_json` reads back."""
        clean = {str(level): clean for level, clean in self.clean.items()}
        return {"fixed": self.fixed, "clean": clean, "fault": self.fault}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Verdict:
        """Rebuild a verdict from its JSON form."""
        clean = {Level(level): value for level, value in content["clean"].items()}
        # Stores from before faults were kept hold verdicts without one.
        return cls(content["fixed"], clean, content.get("fault", ""))


@dataclass(frozen=True)
class Attempt:
    """One finished session on one task, graded.

    Attributes:
        task: The task's id.
        project: Its project.
        operator: What broke it.
        sample: Which of several attempts, from 0.
        verdict: What the grader says.
        failure: Why it is not fixed; `None` when it is.
        turns: Assistant's messages.
        calls: Tool calls.
        valid_calls: Those that could be read and fitted their schema.
        prompt_tokens: Tokens read.
        tokens: Tokens generated.
        ending: Why the session was over.
        outcomes: Outcome to the number of calls that had it.
        messages: The transcript.
        language: Its backend's name.
    """

    task: str
    project: str
    operator: str
    sample: int
    verdict: Verdict
    failure: Failure | None
    turns: int
    calls: int
    valid_calls: int
    prompt_tokens: int
    tokens: int
    ending: str
    outcomes: Mapping[str, int]
    messages: tuple[Message, ...] = ()
    language: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form: the transcript with all that is known of it."""
        return {
            **{name: value for name, value in vars(self).items() if name != "verdict"},
            **self.verdict.to_json(),
            "outcomes": dict(self.outcomes),
            "messages": list(self.messages),
        }

    @classmethod
    def masked(
        cls, task: BugTask, sample: int, note: str, messages: Sequence[Mapping[str, Any]] = ()
    ) -> Attempt:
        """An attempt that the machine spoiled: counted, never scored."""
        return cls(
            task.id, task.mutant.project, task.mutant.mutant.operator, sample,
            Verdict(None, fault=note or "the conversation was lost"), Failure.INFRASTRUCTURE,
            0, 0, 0, 0, 0, "infrastructure", {},
            tuple(dict(message) for message in messages), task.mutant.language,
        )  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Attempt:
        """Rebuild an attempt from its JSON form."""
        fields = dict(content)
        verdict = Verdict.from_json(fields)
        for name in verdict.to_json():
            fields.pop(name, None)
        failure = fields.pop("failure")
        messages = tuple(fields.pop("messages"))
        return cls(
            **fields,
            verdict=verdict,
            failure=None if failure is None else Failure(failure),
            messages=messages,
        )


def attempt_of(
    task: BugTask,
    project: Project,
    record: SessionRecord,
    verdict: Verdict,
    *,
    sample: int = 0,
    prompt_tokens: int = 0,
    tokens: int = 0,
    messages: Sequence[Message] = (),
) -> Attempt:
    """Sum up a finished and graded session."""
    failure = None if verdict.fixed else failure_of(task, project, record)
    if verdict.fixed is None:
        failure = Failure.INFRASTRUCTURE
    return Attempt(
        task=task.id,
        project=task.mutant.project,
        operator=task.mutant.mutant.operator,
        sample=sample,
        verdict=verdict,
        failure=failure,
        turns=record.turns,
        calls=len(record.calls),
        valid_calls=sum(call.is_valid for call in record.calls),
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        ending=str(record.ending or ""),
        outcomes=dict(sorted(Counter(call.outcome for call in record.calls).items())),
        messages=tuple(messages),
        language=task.mutant.language,
    )


def has_no_new_findings(before: Evaluation, after: Evaluation) -> bool | None:
    """Whether a tree has no finding that the original has not; `None` when not measured.

    Findings are compared by file, code and message, as lines move.
    """
    if before.findings is None or after.findings is None or not before.complete:
        return None
    if not after.complete:
        return False
    known = Counter((found.file, found.code, found.message) for found in before.findings)
    seen = Counter((found.file, found.code, found.message) for found in after.findings)
    return not seen - known


@dataclass(frozen=True)
class Baselines:
    """Verdicts of what needs no model, by task.

    Attributes:
        no_op: Of the empty patch.
        oracle: Of the original text.
        rule: Of the best rule.
        rule_name: Which one it is, chosen on training tasks.
        searched: Of the first rule whose repair passes the visible tests: they are run, as an
            agent may. Empty when not measured.
    """

    no_op: Mapping[str, Verdict]
    oracle: Mapping[str, Verdict]
    rule: Mapping[str, Verdict]
    rule_name: str
    searched: Mapping[str, Verdict] = field(default_factory=dict)

    def all(self) -> dict[str, Mapping[str, Verdict]]:
        """Those that were measured, by the name that reports give them."""
        named = {"no_op": self.no_op, "oracle": self.oracle, "best_rule": self.rule}
        return {**named, "searched_rules": self.searched} if self.searched else named


def fixed_shares(attempts: Sequence[Attempt]) -> dict[str, float]:
    """Task to the share of its attempts that fix it; tasks of which nothing is known are absent."""
    known: dict[str, list[bool]] = defaultdict(list)
    for attempt in attempts:
        if attempt.verdict.fixed is not None:
            known[attempt.task].append(attempt.verdict.fixed)
    return {task: sum(results) / len(results) for task, results in sorted(known.items())}


def fixed_rate(attempts: Sequence[Attempt]) -> Rate:
    """The rate of fixed tasks: Wilson's interval over single attempts, else over tasks."""
    shares = fixed_shares(attempts)
    if all(share in (0.0, 1.0) for share in shares.values()):
        return wilson_rate(round(sum(shares.values())), len(shares))
    return mean_rate(list(shares.values()))


def pass_rates(attempts: Sequence[Attempt], ks: Sequence[int] = (1, 8)) -> dict[str, float]:
    """Mean pass@k over the tasks that have at least `k` known attempts; absent when none has."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for attempt in attempts:
        if attempt.verdict.fixed is not None:
            counts[attempt.task][0] += 1
            counts[attempt.task][1] += attempt.verdict.fixed
    rates = {}
    for k in ks:
        values = [pass_at_k(n, fixed, k) for n, fixed in counts.values() if n >= k]
        if values:
            rates[str(k)] = round(sum(values) / len(values), 4)
    return rates


def against(first: Sequence[Attempt], second: Sequence[Attempt]) -> Comparison:
    """What the second model has over the first, paired by task."""
    return compare(fixed_shares(first), fixed_shares(second))


def score(
    attempts: Sequence[Attempt],
    baselines: Baselines,
    metrics: Mapping[Level, str],
    targets: Mapping[str, float] | None = None,
    parent: Sequence[Attempt] | None = None,
    start: Sequence[Attempt] | None = None,
    ks: Sequence[int] = (1, 8),
) -> dict[str, Any]:
    """The report of an evaluation, JSON-able.

    Args:
        attempts: All attempts of all tasks.
        baselines: Over the same tasks.
        metrics: Level to the name of its rate, as the backend declares it.
        targets: Name of a rate to the value that it should reach.
        parent: The same tasks, tried by the model that this one was trained from.
        start: And by the model that its curriculum began with.
        ks: For which `k` pass@k is given.
    """
    known = [attempt for attempt in attempts if attempt.verdict.fixed is not None]
    shares = fixed_shares(attempts)
    report: dict[str, Any] = {
        "tasks": len({attempt.task for attempt in attempts}),
        "attempts": len(attempts),
        "masked": len(attempts) - len(known),
        "faults": _counts(attempts, lambda a: a.verdict.fault.partition("\n")[0] or None),
        "fixed_rate": fixed_rate(attempts).to_json(),
        "pass_at": pass_rates(attempts, ks),
        "valid_call_rate": _valid(attempts).to_json(),
        "turns": _mean([a.turns for a in known]),
        "tokens": _mean([a.tokens for a in known]),
        "prompt_tokens": _mean([a.prompt_tokens for a in known]),
        "metrics": _metrics(known, baselines, metrics, targets or {}),
        "baselines": {
            "best_rule_name": baselines.rule_name,
            **{name: _verdict_rate(of, shares) for name, of in baselines.all().items()},
        },
        **{
            f"against_{name}": compare(_shares(of), shares).to_json()
            for name, of in baselines.all().items()
            if name in ("best_rule", "searched_rules")
        },
        "by_operator": _grouped(known, lambda attempt: attempt.operator),
        "by_project": _grouped(known, lambda attempt: attempt.project),
        "failures": _counts(attempts, lambda a: None if a.failure is None else str(a.failure)),
        "endings": _counts(attempts, lambda attempt: attempt.ending),
        "outcomes": dict(sorted(sum((Counter(a.outcomes) for a in known), Counter()).items())),
    }
    for name, others in (("parent", parent), ("start", start)):
        if others is not None:
            report[f"against_{name}"] = against(others, attempts).to_json()
    if start is not None:
        report["start"] = {
            "fixed_rate": fixed_rate(start).to_json(), "valid_call_rate": _valid(start).to_json(),
        }  # fmt: skip
    return report


def _valid(attempts: Sequence[Attempt]) -> Rate:
    known = [attempt for attempt in attempts if attempt.verdict.fixed is not None]
    return wilson_rate(sum(a.valid_calls for a in known), sum(a.calls for a in known))


def _metrics(
    known: Sequence[Attempt],
    baselines: Baselines,
    metrics: Mapping[Level, str],
    targets: Mapping[str, float],
) -> dict[str, Any]:
    """Each rate of the language, with its target, beside the same rate of what needs no model."""
    tasks = {attempt.task for attempt in known}
    found: dict[str, Any] = {}
    for level, name in metrics.items():
        rate = _level_rate([attempt.verdict for attempt in known], level)
        target = targets.get(name)
        found[name] = {
            "rate": None if rate is None else rate.to_json(),
            "target": target,
            "reached": None if rate is None or target is None else rate.value >= target,
            **{
                base: None if beside is None else round(beside.value, 4)
                for base, of in baselines.all().items()
                for beside in [_level_rate([v for t, v in of.items() if t in tasks], level)]
            },
        }
    return found


def _level_rate(verdicts: Sequence[Verdict], level: Level) -> Rate | None:
    """The rate at a level; `None` when it was not measured, which is never taken for 1."""
    results = [v.fixed if level is Level.TEST else v.clean.get(level) for v in verdicts]
    measured = [result for result in results if result is not None]
    return wilson_rate(sum(measured), len(measured)) if measured else None


def _shares(verdicts: Mapping[str, Verdict]) -> dict[str, float]:
    return {task: float(v.fixed) for task, v in verdicts.items() if v.fixed is not None}


def _verdict_rate(verdicts: Mapping[str, Verdict], tasks: Mapping[str, float]) -> dict[str, Any]:
    fixed = [v.fixed for task, v in verdicts.items() if task in tasks and v.fixed is not None]
    return wilson_rate(sum(fixed), len(fixed)).to_json()


def _grouped(known: Sequence[Attempt], key: Callable[[Attempt], str]) -> dict[str, Any]:
    groups: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in known:
        groups[key(attempt)].append(attempt)
    return {
        name: {
            "rate": fixed_rate(members).to_json(),
            "failures": _counts(members, lambda a: None if a.failure is None else str(a.failure)),
        }
        for name, members in sorted(groups.items())
    }


def _counts(attempts: Sequence[Attempt], key: Callable[[Attempt], str | None]) -> dict[str, int]:
    counted = Counter(name for a in attempts if (name := key(a)) is not None)
    return dict(sorted(counted.items()))


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / len(values), 2) if values else 0.0
