"""Reads the traced baseline run: which tests reach which function, and with what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curricle.languages import Output
from curricle_python.running import parse_tests

REPORT_NAME = "trace.jsonl"


def reaching(outputs: Sequence[Output]) -> dict[str, tuple[str, ...]]:
    """Function to tests; empty unless the run was whole, for then nothing is known for sure."""
    if not outputs:
        return {}
    evaluation = parse_tests(outputs[0])
    if not evaluation.complete:
        return {}
    everything = tuple(sorted(evaluation.tests))
    return {
        record["function"]: everything if record["tests"] is None else tuple(record["tests"])
        for record in _records(outputs)
    }


def recorded_calls(outputs: Sequence[Output], function: str) -> list[str]:
    """Calls of a function that tests made: its pickled arguments, each in base 64."""
    for record in _records(outputs):
        if record["function"] == function:
            return list(record["calls"])
    return []


def _records(outputs: Sequence[Output]) -> Iterator[Mapping[str, Any]]:
    for output in outputs:
        for line in output.reports.get(REPORT_NAME, "").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return  # cut at the limit of a report's size
