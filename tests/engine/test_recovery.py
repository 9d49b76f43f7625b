"""Trainer checkpoints: which one is resumed from, which ones stay, and when memory runs out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curricle.checkpoints.manifest import read_manifest
from curricle.engine.recovery import (
    OOMHandler,
    is_out_of_memory,
    newest_valid_checkpoint,
    rotate_checkpoints,
    seal_checkpoint,
)


def checkpoint(folder: Path, step: int, sealed: bool = True) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir()
    (made / "state.pt").write_text(f"state of step {step}")
    if sealed:
        seal_checkpoint(made, step, {"precision": "fp32"})
    return made


class TestResolving:
    def test_without_any_there_is_none(self, tmp_path: Path) -> None:
        assert newest_valid_checkpoint(tmp_path) is None

    def test_the_newest_is_by_step_and_not_by_name(self, tmp_path: Path) -> None:
        for step in (9, 100, 20):
            checkpoint(tmp_path, step)
        assert newest_valid_checkpoint(tmp_path) == tmp_path / "checkpoint-100"

    def test_an_unfinished_one_is_skipped_and_named(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        older = checkpoint(tmp_path, 5)
        checkpoint(tmp_path, 6, sealed=False)
        assert newest_valid_checkpoint(tmp_path) == older
        assert "skipped checkpoint-6: it was not finished" in caplog.text

    @pytest.mark.parametrize("fault", ["changed", "missing", "added"])
    def test_an_edited_one_is_skipped_and_the_file_is_named(
        self, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        older, newer = checkpoint(tmp_path, 5), checkpoint(tmp_path, 6)
        if fault == "changed":
            (newer / "state.pt").write_text("STATE of step 6")
        elif fault == "missing":
            (newer / "state.pt").unlink()
        else:
            (newer / "more.pt").write_text("")
        assert newest_valid_checkpoint(tmp_path) == older
        named = (
            "more.pt was added"
            if fault == "added"
            else f"state.pt {'is' if fault == 'missing' else 'was'} {fault}"
        )
        assert "skipped checkpoint-6" in caplog.text and named in caplog.text

    def test_one_of_another_trainer_is_no_checkpoint(self, tmp_path: Path) -> None:
        checkpoint(tmp_path, 5, sealed=False)
        (tmp_path / "checkpoint-best").mkdir()
        assert newest_valid_checkpoint(tmp_path) is None


class TestRotation:
    def test_the_newest_valid_ones_stay(self, tmp_path: Path) -> None:
        for step in (1, 2, 10, 11):
            checkpoint(tmp_path, step)
        rotate_checkpoints(tmp_path, keep=2)
        assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-10", "checkpoint-11"}

    def test_unfinished_ones_do_not_count_and_older_ones_go(self, tmp_path: Path) -> None:
        for step, sealed in ((1, True), (2, False), (3, True), (4, True), (5, False)):
            checkpoint(tmp_path, step, sealed)
        rotate_checkpoints(tmp_path, keep=2)
        left = {p.name for p in tmp_path.iterdir()}
        assert left == {"checkpoint-3", "checkpoint-4", "checkpoint-5"}

    def test_without_a_valid_one_nothing_goes(self, tmp_path: Path) -> None:
        checkpoint(tmp_path, 1, sealed=False)
        rotate_checkpoints(tmp_path, keep=1)
        assert (tmp_path / "checkpoint-1").exists()


def test_the_seal_says_step_and_precision(tmp_path: Path) -> None:
    manifest = read_manifest(checkpoint(tmp_path, 7))
    assert manifest is not None
    assert manifest.identity == {"step": 7} and manifest.effective == {"precision": "fp32"}


class TestMemoryThatRunsOut:
    def test_the_micro_batch_is_halved_until_one_row_is_left(self) -> None:
        error = torch.OutOfMemoryError("out of memory")
        handler = OOMHandler(7)
        halves = []
        for _ in range(2):
            handler.shrink(error)
            halves.append(handler.micro_batch)
        assert halves == [3, 1]
        with pytest.raises(torch.OutOfMemoryError):
            handler.shrink(error)

    def test_other_errors_and_recovery_that_is_off_pass_through(self) -> None:
        with pytest.raises(RuntimeError, match="shapes"):
            OOMHandler(8).shrink(RuntimeError("shapes differ"))
        with pytest.raises(MemoryError):
            OOMHandler(8, enabled=False).shrink(MemoryError())

    def test_an_allocation_that_fails_on_a_cpu_is_recognised(self) -> None:
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1 << 55)
        assert is_out_of_memory(caught.value)
