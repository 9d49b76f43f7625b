"""The metrics that stages can be judged by, in groups that are measured together.

Only names live here, so that a gate which names a metric that its stage does not produce is
refused before anything runs. ``curricle.engine.evaluation`` measures them.
"""

from __future__ import annotations

METRIC_GROUPS: dict[str, tuple[str, ...]] = {
    "language": ("perplexity", "next_token_accuracy"),
    "chat": ("assistant_token_accuracy",),
    "requests": ("refusal_rate", "over_refusal_rate"),
    "preference": ("preference_accuracy", "ranking_accuracy", "reward_margin"),
    "task": ("task_accuracy",),
    "agent": (
        "fixed_rate",
        "fixed_rate_low",
        "fixed_rate_high",
        "valid_call_rate",
        "tokens_per_attempt",
    ),
    "merge": ("merge_logit_difference",),
}
"""Group to metrics. Higher is better but for perplexity, over-refusal and the merge difference."""


def metric_names(groups: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics of some groups, in order."""
    return tuple(name for group in groups for name in METRIC_GROUPS[group])
