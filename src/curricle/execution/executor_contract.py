"""What every executor promises, as a test-suite, and the small work functions that it uses.

A test module inherits it and gives the executor:

    class TestMyExecutor(ExecutorContract):
        @pytest.fixture
        def make(self):
            return lambda **parameters: MyExecutor(ExecutorParameters(**parameters))
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curricle.errors import ConfigError, CurricleError, ExecutionFailed, InfrastructureFault
from curricle.execution.executor import Executor, Item, Setup
from curricle.execution.journal import Journal, Outcome, Status

_HERE = __name__
Make = Callable[..., Executor]


def square(item: Item, state: Any) -> Item:
    """The square of `number`; writes down that it ran when `log` names a file."""
    if log := item.get("log"):
        with Path(log).open("a") as stream:
            stream.write(f"{item['number']} {os.getpid()}\n")
    time.sleep(item.get("sleep_s", 0))
    return {"square": item["number"] ** 2}


def dying(item: Item, state: Any) -> Item:
    """Kills its process until `marker` exists as often as `deaths` says."""
    if _count(item["marker"]) <= item["deaths"]:
        os._exit(7)
    return {"pid": os.getpid()}


def faulty(item: Item, state: Any) -> Item:
    """Raises an infrastructure fault until `marker` exists as often as `faults` says."""
    if _count(item["marker"]) <= item["faults"]:
        raise InfrastructureFault(f"no sandbox for pid={os.getpid()}")
    return {"pid": os.getpid()}


def endless(item: Item, state: Any) -> Item:
    """Starts a process in a session of its own, and never ends."""
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(item["pids"]).write_text(f"{os.getpid()} {child.pid}")
    while True:
        time.sleep(1)


def defective(item: Item, state: Any) -> Item:
    """Has a defect."""
    raise KeyError("there is no such thing")


def unconfigured(item: Item, state: Any) -> Item:
    """Cannot work as the user has set it up."""
    raise ConfigError("sandbox.backend is 'none'; name another.")


def not_json(item: Item, state: Any) -> Item:
    """Returns what no journal can hold."""
    return {"ratio": float("nan")}


def candidate_text(item: Item, state: Any) -> Item:
    """Returns text as hostile programs print it, and warns."""
    logging.getLogger(_HERE).warning("a warning of item %s", item["number"])
    return {"stdout": "\ud800 \u2028\x00\n{", "number": item["number"]}


@contextmanager
def counting(settings: Item) -> Iterator[Item]:
    """A context that says when it was entered and left."""
    log = Path(settings["log"])
    with log.open("a") as stream:
        stream.write(f"enter {os.getpid()}\n")
    yield {"factor": settings["factor"]}
    with log.open("a") as stream:
        stream.write(f"leave {os.getpid()}\n")


def scaled(item: Item, state: Item) -> Item:
    """The number times the factor of `counting`."""
    return {"scaled": item["number"] * state["factor"]}


@contextmanager
def impossible(settings: Item) -> Iterator[None]:
    """A setup that never works."""
    raise InfrastructureFault("the kernel has no such thing")
    yield


def _count(marker: str) -> int:
    """How often this was called for a marker, over all processes."""
    with Path(marker).open("a") as stream:
        stream.write("x")
    return len(Path(marker).read_text())


def numbers(count: int, **more: Any) -> Iterator[Item]:
    """Items for `square`."""
    return ({"number": number, **more} for number in range(count))


class ExecutorContract:
    """Tests that an executor passes; `make` is a fixture that builds one from its parameters."""

    def test_every_item_gives_its_result(self, make: Make, tmp_path: Path) -> None:
        """Results come with the right keys, and are in the journal before they are seen."""
        with make(workers=2) as executor, Journal(tmp_path / "journal") as journal:
            for key, outcome in executor.map(f"{_HERE}:square", numbers(25), journal, key=_number):
                assert outcome.value == {"square": int(key) ** 2}
                assert outcome.status is Status.DONE
                assert journal.get(key) == outcome
            assert sorted(map(int, journal)) == list(range(25))

    def test_what_the_journal_holds_is_not_run_again(self, make: Make, tmp_path: Path) -> None:
        """A second map runs what is new alone, and yields everything."""
        log = tmp_path / "log"
        with make(workers=2) as executor:
            for count in (6, 10):
                with Journal(tmp_path / "journal") as journal:
                    items = numbers(count, log=str(log))
                    found = dict(executor.map(f"{_HERE}:square", items, journal, key=_number))
                assert {int(key): outcome.value["square"] for key, outcome in found.items()} == {
                    number: number**2 for number in range(count)
                }
        assert sorted(_ran(log)) == list(range(10))

    def test_equal_items_count_once(self, make: Make, tmp_path: Path) -> None:
        """Two items of the same content are one."""
        log = tmp_path / "log"
        items = [*numbers(4, log=str(log)), *numbers(4, log=str(log))]
        with make(workers=2) as executor, Journal(tmp_path / "journal") as journal:
            assert len(list(executor.map(f"{_HERE}:square", items, journal))) == 4
        assert sorted(_ran(log)) == [0, 1, 2, 3]

    def test_a_generator_is_not_read_far_ahead(self, make: Make, tmp_path: Path) -> None:
        """Items are taken as workers become free."""
        taken = 0

        def items() -> Iterator[Item]:
            nonlocal taken
            for item in numbers(50):
                taken += 1
                yield item

        with make(workers=2) as executor, Journal(tmp_path / "journal") as journal:
            seen = 0
            for _ in executor.map(f"{_HERE}:square", items(), journal):
                seen += 1
                assert taken <= seen + 4
        assert taken == seen == 50

    def test_a_worker_that_dies_is_replaced_and_its_item_tried_again(
        self, make: Make, tmp_path: Path
    ) -> None:
        """The death of a worker costs an attempt and nothing else."""
        item = {"marker": str(tmp_path / "marker"), "deaths": 2}
        with make(workers=1, retries=2) as executor, Journal(tmp_path / "journal") as journal:
            ((_, outcome),) = executor.map(f"{_HERE}:dying", [item], journal)
        assert (outcome.status, outcome.attempts) == (Status.DONE, 3)

    def test_a_fault_is_tried_again_by_another_worker_then_masked(
        self, make: Make, tmp_path: Path
    ) -> None:
        """Masked says who tried and why it failed, and the next run tries again."""
        item = {"marker": str(tmp_path / "marker"), "faults": 3}
        with make(workers=1, retries=2) as executor:
            with Journal(tmp_path / "journal") as journal:
                ((key, masked),) = executor.map(f"{_HERE}:faulty", [item], journal)
            assert (masked.status, masked.attempts, masked.value) == (Status.MASKED, 3, {})
            assert "no sandbox for pid=" in masked.note
            with Journal(tmp_path / "journal") as journal:
                assert journal.get(key) == masked
                ((_, done),) = executor.map(f"{_HERE}:faulty", [item], journal)
        assert done.status is Status.DONE
        assert f"pid={done.value['pid']}" not in masked.note
        with Journal(tmp_path / "journal") as journal:
            assert dict(journal.items()) == {key: done}

    def test_an_item_that_takes_too_long_is_killed_with_all_below_it(
        self, make: Make, tmp_path: Path
    ) -> None:
        """The others go on; the long one is masked."""
        pids = tmp_path / "pids"
        with (
            make(workers=1, retries=0, item_timeout_s=2.0) as executor,
            Journal(tmp_path / "journal") as journal,
        ):
            # Not the time that a worker's first import takes.
            list(executor.map(f"{_HERE}:square", [{"number": -1}], journal))
            items = [{"pids": str(pids)}]
            ((_, outcome),) = executor.map(f"{_HERE}:endless", items, journal)
            assert outcome.status is Status.MASKED and "item_timeout_s" in outcome.note
            _assert_ended(*map(int, pids.read_text().split()))
            assert len(list(executor.map(f"{_HERE}:square", numbers(3), journal))) == 3

    def test_a_defect_ends_the_map_with_its_traceback(self, make: Make, tmp_path: Path) -> None:
        """What is no outcome is never scored."""
        with make(workers=1) as executor, Journal(tmp_path / "journal") as journal:
            error = _raises(executor, "defective", [{"number": 1}], journal)
            assert isinstance(error, ExecutionFailed)
            assert "KeyError" in str(error) and "in defective" in str(error)
            assert len(journal) == 0
            assert len(list(executor.map(f"{_HERE}:square", numbers(3), journal))) == 3

    def test_what_the_user_can_mend_keeps_its_class(self, make: Make, tmp_path: Path) -> None:
        """And its message, as it was."""
        with make(workers=1) as executor, Journal(tmp_path / "journal") as journal:
            error = _raises(executor, "unconfigured", [{"number": 1}], journal)
        assert type(error) is ConfigError
        assert str(error) == "sandbox.backend is 'none'; name another."

    def test_a_result_has_to_be_json(self, make: Make, tmp_path: Path) -> None:
        """A NaN is a defect where it arises, not in whoever reads the journal."""
        with make(workers=1) as executor, Journal(tmp_path / "journal") as journal:
            assert "not JSON compliant" in str(_raises(executor, "not_json", [{}], journal))

    def test_text_of_candidates_passes_unharmed(self, make: Make, tmp_path: Path) -> None:
        """Whatever they print."""
        with make(workers=1) as executor:
            with Journal(tmp_path / "journal") as journal:
                list(executor.map(f"{_HERE}:candidate_text", [{"number": 5}], journal))
            with Journal(tmp_path / "journal") as journal:
                ((_, outcome),) = journal.items()
        assert outcome.value == {"stdout": "\ud800 \u2028\x00\n{", "number": 5}

    def test_a_worker_enters_its_context_once_and_leaves_it(
        self, make: Make, tmp_path: Path
    ) -> None:
        """Workers stay between maps of the same setup."""
        log = tmp_path / "log"
        setup = Setup(f"{_HERE}:counting", {"log": str(log), "factor": 3})
        with make(workers=1) as executor, Journal(tmp_path / "journal") as journal:
            for count in (3, 6):
                items = numbers(count)
                found = dict(
                    executor.map(f"{_HERE}:scaled", items, journal, setup=setup, key=_number)
                )
                assert found[str(count - 1)].value == {"scaled": 3 * (count - 1)}
        entered, left = log.read_text().splitlines()
        assert (entered.split()[0], left.split()[0]) == ("enter", "leave")
        assert entered.split()[1] == left.split()[1]

    def test_a_setup_that_never_works_is_an_error_not_a_score(
        self, make: Make, tmp_path: Path
    ) -> None:
        """Nothing is masked because this machine cannot do it at all."""
        with make(workers=2, retries=1) as executor, Journal(tmp_path / "journal") as journal:
            setup = Setup(f"{_HERE}:impossible")
            error = _raises(executor, "square", numbers(3), journal, setup=setup)
            assert isinstance(error, ExecutionFailed) and "the kernel has no" in str(error)
            assert len(journal) == 0

    def test_leaving_early_keeps_what_was_finished(self, make: Make, tmp_path: Path) -> None:
        """And the next map goes on from there."""
        log = tmp_path / "log"
        with make(workers=2) as executor, Journal(tmp_path / "journal") as journal:
            items = [*numbers(8, log=str(log), sleep_s=0.01)]
            for done, _ in enumerate(executor.map(f"{_HERE}:square", items, journal), start=1):
                if done == 3:
                    break
            recorded = len(journal)
            assert recorded >= 3
            assert len(list(executor.map(f"{_HERE}:square", items, journal))) == 8
        # Only what was in flight when we left may have run twice.
        assert max(Counter(_ran(log)).values()) <= 2
        assert len(_ran(log)) <= 8 + 2


def _number(item: Item) -> str:
    return str(item["number"])


def _ran(log: Path) -> list[int]:
    return [int(line.split()[0]) for line in log.read_text().splitlines()]


def _raises(
    executor: Executor, function: str, items: Any, journal: Journal, **options: Any
) -> CurricleError:
    try:
        found: list[tuple[str, Outcome]] = list(
            executor.map(f"{_HERE}:{function}", items, journal, **options)
        )
    except CurricleError as error:
        return error
    raise AssertionError(f"{function} gave {found}")


def _assert_ended(*pids: int) -> None:
    deadline = time.monotonic() + 5
    alive = set(pids)
    while alive and time.monotonic() < deadline:
        alive = {pid for pid in alive if is_running(pid)}
        time.sleep(0.02)
    assert not alive, f"still running: {alive}"


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
