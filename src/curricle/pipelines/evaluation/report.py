"""The report of an evaluation: what a model does, always beside what needs no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from curricle.agents.scoring import pass_rates, score
from curricle.checkpoints.store import Stored
from curricle.config.evaluation import EvaluationParameters
from curricle.languages.registry import get_backend
from curricle.pipelines.evaluation.baselines import read_baselines
from curricle.pipelines.evaluation.subject import Subject
from curricle.reporting.attempts import ATTEMPTS, read_attempts
from curricle.stages.build import read_report

_BESIDE = ("no_op", "oracle", "best_rule", "searched_rules")
_COLUMNS = ("metric", "value", "low", "high", "target", "reached", *_BESIDE)


def make_report(
    language: str,
    subject: Subject,
    attempts: Stored,
    sampled: Stored,
    baselines: Stored,
    parameters: EvaluationParameters,
) -> tuple[Any, str, dict[str, Any]]:
    """Return a `pandas.DataFrame` (a row a metric), a page of Markdown, and all numbers."""
    import pandas as pd

    tried = read_attempts(attempts.path / ATTEMPTS)
    several = read_attempts(sampled.path / ATTEMPTS)
    parent, start = (
        None if path is None else read_attempts(path)
        for path in (subject.parent_attempts, subject.start_attempts)
    )
    numbers = {
        "language": language,
        "subject": subject.name,
        "stage": subject.stage,
        **score(
            tried, read_baselines(baselines), get_backend(language).metrics, parameters.targets,
            parent,
            start,
        ),
        "pass_at": pass_rates(several, parameters.pass_at),
        "samples": parameters.samples,
        "sampled_tasks": len({attempt.task for attempt in several}),
        "rules": read_report(baselines),
        "transcripts": {"attempts": str(attempts.path / ATTEMPTS),
                        "sampled": str(sampled.path / ATTEMPTS)},
    }  # fmt: skip
    if parent is not None:
        numbers["parent"] = subject.parent
    if start is not None:
        numbers["start"]["stage"] = subject.start
    rows = list(_rows(numbers))
    return pd.DataFrame(rows, columns=list(_COLUMNS)), _page(numbers, rows), numbers


def _rows(numbers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, metric in numbers["metrics"].items():
        yield {
            "metric": name,
            **_rate(metric["rate"]),
            **{key: metric[key] for key in ("target", "reached", *_BESIDE) if key in metric},
        }
    yield {"metric": "fixed_rate", **_rate(numbers["fixed_rate"]),
           **{name: numbers["baselines"][name]["value"] for name in _BESIDE
              if name in numbers["baselines"]}}  # fmt: skip
    yield {"metric": "valid_call_rate", **_rate(numbers["valid_call_rate"])}
    for name in ("fixed_rate", "valid_call_rate"):
        if "start" in numbers:
            yield {"metric": f"{name} of {numbers['start']['stage']}",
                   **_rate(numbers["start"][name])}  # fmt: skip
    for k, value in numbers["pass_at"].items():
        yield {"metric": f"pass@{k}", "value": value}
    for name in ("turns", "tokens", "prompt_tokens"):
        yield {"metric": name, "value": numbers[name]}


def _rate(rate: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if rate is None else {key: rate[key] for key in ("value", "low", "high")}


def _page(numbers: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    rules = numbers["rules"]
    parts = [
        f"# Evaluation: {numbers['subject']}, {numbers['language']}",
        f"{numbers['tasks']} held-out tasks, one attempt at each; {numbers['masked']} were spoiled "
        f"by the machine and count nowhere. {numbers['samples']} samples of "
        f"{numbers['sampled_tasks']} tasks for pass@k. "
        f"Transcripts: `{numbers['transcripts']['attempts']}`.",
        *_caveats(numbers["faults"], rules.get("original_refused", ())),
        _table(_COLUMNS, ([row.get(column) for column in _COLUMNS] for row in rows)),
        f"The best rule is `{rules['rule']}`: it fixes {rules['rule_fixed']} of "
        f"{rules['rule_tasks']} training tasks, the most of {len(rules['scores'])} rules. Targets "
        "are wishes, no gates. An empty cell was not measured.",
        "## Against others, task by task",
        _table(
            ("against", "tasks", "gain", "low", "high", "only it", "only the other", "p"),
            _comparisons(numbers),
        ),
        "## By operator",
        _table(("operator", "fixed", "of", "rate", "low", "high", "failures"),
               _groups(numbers["by_operator"])),
        "## By project",
        _table(("project", "fixed", "of", "rate", "low", "high", "failures"),
               _groups(numbers["by_project"])),
        "## Why not",
        _table(("failure", "attempts"), numbers["failures"].items()),
        "## How attempts ended, and what calls gave",
        _table(("ending", "attempts"), numbers["endings"].items()),
        _table(("outcome", "calls"), numbers["outcomes"].items()),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _comparisons(numbers: Mapping[str, Any]) -> Iterator[list[Any]]:
    names = {
        "against_best_rule": "best rule",
        "against_searched_rules": "rules that run the tests",
        "against_parent": numbers.get("parent", ""),
        "against_start": numbers.get("start", {}).get("stage", ""),
    }
    for key, name in names.items():
        if key in numbers:
            pair = numbers[key]
            yield [name, pair["tasks"], pair["gain"], pair["low"], pair["high"],
                   pair["only_second"], pair["only_first"], pair["p"]]  # fmt: skip


def _caveats(faults: Mapping[str, int], refused: Sequence[str]) -> Iterator[str]:
    lines = [f"- spoiled ({count}): {fault}" for fault, count in faults.items()]
    lines += [
        f"- {task[:12]}: the original is not accepted, so no model fixes it" for task in refused
    ]
    if lines:
        yield "\n".join(lines)


def _groups(groups: Mapping[str, Any]) -> Iterator[list[Any]]:
    for name, group in groups.items():
        rate = group["rate"]
        failures = ", ".join(f"{kind} {count}" for kind, count in group["failures"].items())
        yield [name, rate["count"], rate["of"], rate["value"], rate["low"], rate["high"], failures]


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")
