"""Drawing inputs for a function ends when there are enough, or when its time is over."""

from __future__ import annotations

import base64
import pickle

import pytest
from curricle_python.inside import drawing

CALL = base64.b64encode(pickle.dumps(([list(range(40))], {}), protocol=4)).decode()


def drawn(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How many inputs are kept, and how often hypothesis drew the one that was seen."""
    drawings = 0
    again = drawing._again

    def counted(values: list[object]) -> object:
        def count(value: object) -> object:
            nonlocal drawings
            drawings += 1
            return value

        return again(values).map(count)

    def outcome(function: object, call: bytes) -> list[object]:
        return ["returned", "", False]

    monkeypatch.setattr(drawing, "_again", counted)
    records = list(drawing.draw({"calls": [CALL], "seed": 0}, len, outcome))
    return len(records), drawings


def test_drawing_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    _, unbounded = drawn(monkeypatch)
    monkeypatch.setattr(drawing, "DRAW_S", 0.0)
    kept, drawings = drawn(monkeypatch)
    assert kept == 0
    assert drawings <= 1 < unbounded


def test_drawing_ends_with_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "KEPT", 3)
    kept, drawings = drawn(monkeypatch)
    assert kept == 1 + 3
    assert drawings < drawing.EXAMPLES // 4
