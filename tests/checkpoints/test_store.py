"""The store: made once, found again, never half there, never silently edited."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from curricle.checkpoints.manifest import MANIFEST_NAME
from curricle.checkpoints.store import Built, Store, changed_keys, storage_errors
from curricle.errors import StageBusy, StoreError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(text: str) -> Callable[[Path, Path], Built]:
    def build(result: Path, resume: Path) -> Built:
        (result / "weights").write_text(text)
        return Built(effective={"precision": "fp32"}, measured={"seconds": os.getpid()})

    return build


def never(result: Path, resume: Path) -> Built:
    raise AssertionError("a stored result was built again")


class TestObtaining:
    def test_a_result_is_built_once_and_found_again(self, store: Store) -> None:
        first = store.obtain("sft.train", {"rate": 1}, write("a"))
        assert (first.path / "weights").read_text() == "a"
        assert store.obtain("sft.train", {"rate": 1}, never) == first

    def test_another_identity_stands_beside_the_first(self, store: Store) -> None:
        first = store.obtain("sft.train", {"rate": 1}, write("a"))
        second = store.obtain("sft.train", {"rate": 2}, write("b"))
        assert first.path.exists() and second.path.exists()
        assert [s.fingerprint for s in store.results("sft.train")] == [
            first.fingerprint, second.fingerprint,
        ]  # fmt: skip

    def test_the_digest_ignores_what_was_measured(self, store: Store, tmp_path: Path) -> None:
        other = Store(tmp_path / "other")

        def slower(result: Path, resume: Path) -> Built:
            built = write("a")(result, resume)
            return Built(effective=built.effective, measured={"seconds": 99.0})

        digest = store.obtain("sft.train", {"rate": 1}, write("a")).digest
        assert other.obtain("sft.train", {"rate": 1}, slower).digest == digest

    def test_the_digest_follows_the_bytes(self, store: Store, tmp_path: Path) -> None:
        other = Store(tmp_path / "other")
        digest = store.obtain("sft.train", {"rate": 1}, write("a")).digest
        assert other.obtain("sft.train", {"rate": 1}, write("b")).digest != digest

    def test_it_says_which_key_changed(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        store.obtain("sft.train", {"parameters": {"rate": 1, "seed": 0}}, write("a"))
        store.obtain("sft.train", {"parameters": {"rate": 2, "seed": 0}}, write("a"))
        assert "changed since the last: parameters.rate" in caplog.text


class TestInterruption:
    def test_an_interrupted_build_does_not_exist(self, store: Store) -> None:
        def interrupted(result: Path, resume: Path) -> Built:
            (result / "weights").write_text("half")
            (resume / "checkpoint").write_text("step 3")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.obtain("sft.train", {"rate": 1}, interrupted)
        assert store.results("sft.train") == []

        def continued(result: Path, resume: Path) -> Built:
            assert (resume / "checkpoint").read_text() == "step 3"
            assert list(result.iterdir()) == [], "half-written results never survive"
            return write("whole")(result, resume)

        assert (store.obtain("sft.train", {"rate": 1}, continued).path / "weights").exists()

    def test_a_finished_build_leaves_no_partial_folder(self, store: Store) -> None:
        stored = store.obtain("sft.train", {"rate": 1}, write("a"))
        assert sorted(p.name for p in stored.path.parent.iterdir()) == [".lock", stored.path.name]

    def test_a_folder_without_a_manifest_is_built_again(self, store: Store) -> None:
        stored = store.obtain("sft.train", {"rate": 1}, write("a"))
        (stored.path / MANIFEST_NAME).unlink()
        assert store.find("sft.train", stored.fingerprint) is None
        assert store.obtain("sft.train", {"rate": 1}, write("a")) == stored


class TestEditedFolders:
    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda folder: (folder / "weights").write_text("b"), "weights was changed"),
            (lambda folder: (folder / "weights").unlink(), "weights is missing"),
            (lambda folder: (folder / "note").write_text("x"), "note was added"),
        ],
    )
    def test_an_edited_result_is_named_and_never_used(
        self, store: Store, edit: Callable[[Path], object], said: str
    ) -> None:
        stored = store.obtain("sft.train", {"rate": 1}, write("a"))
        edit(stored.path)
        with pytest.raises(StoreError, match=said):
            store.obtain("sft.train", {"rate": 1}, never)


def _hold(root: Path, holding: object, release: object) -> None:
    def build(result: Path, resume: Path) -> Built:
        holding.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]
        return Built()

    Store(root).obtain("sft.train", {"rate": 1}, build)


class TestTwoRuns:
    def test_a_second_run_on_the_same_stage_is_told_who_holds_it(self, store: Store) -> None:
        context = multiprocessing.get_context("fork")
        holding, release = context.Event(), context.Event()
        holder = context.Process(target=_hold, args=(store.root, holding, release))
        holder.start()
        assert holding.wait(30)
        with pytest.raises(StageBusy, match=f"process {holder.pid}"):
            store.obtain("sft.train", {"rate": 2}, write("b"))
        release.set()
        holder.join()
        assert store.obtain("sft.train", {"rate": 2}, write("b")).path.exists()

    def test_a_killed_holder_leaves_no_lock(self, store: Store) -> None:
        context = multiprocessing.get_context("fork")
        holding, release = context.Event(), context.Event()
        holder = context.Process(target=_hold, args=(store.root, holding, release))
        holder.start()
        assert holding.wait(30)
        holder.kill()
        holder.join()
        assert store.obtain("sft.train", {"rate": 1}, write("a")).path.exists()


class TestStorage:
    @pytest.mark.parametrize(
        ("number", "said"),
        [(errno.ENOSPC, "is full"), (errno.EROFS, "cannot be written"), (errno.EACCES, "globals")],
    )
    def test_a_disk_that_refuses_is_named_with_the_fix(
        self, store: Store, number: int, said: str
    ) -> None:
        def refused(result: Path, resume: Path) -> Built:
            raise OSError(number, os.strerror(number))

        with pytest.raises(StoreError, match=said):
            store.obtain("sft.train", {"rate": 1}, refused)

    def test_other_operating_system_errors_stay_what_they_are(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), storage_errors(tmp_path):
            (tmp_path / "missing").read_text()


def test_changed_keys_are_dotted_and_sorted() -> None:
    before = {"a": {"b": 1, "c": 2}, "d": 3}
    after = {"a": {"b": 1, "c": 4}, "e": 5}
    assert changed_keys(before, after) == ["a.c", "d", "e"]


def test_what_a_build_left_that_was_killed_at_its_very_end_goes_with_the_next_run(
    store: Store,
) -> None:
    stored = store.obtain("sft.train", {"rate": 1}, write("a"))
    partial = stored.path.with_name(stored.fingerprint + ".partial")
    (partial / "resume").mkdir(parents=True)
    assert store.obtain("sft.train", {"rate": 1}, never) == stored
    assert not partial.exists()
