"""Ray keeps the contract of executors, and loses nothing when a node dies."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curricle.config.execution import ExecutorParameters
from curricle.errors import ConfigError
from curricle.execution.executor import Executor, create_executor
from curricle.execution.executor_contract import (
    ExecutorContract,
    Make,
    is_running,
)
from curricle.execution.journal import Journal, Status
from tests.execution.programs import WORKS, eventually, processes, start_program

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of this machine; tests add nodes to its head."""
    import ray

    found = started_cluster()
    ray.init(address=found.address, log_to_driver=False)
    yield found
    ray.shutdown()
    found.shutdown()


def started_cluster() -> Any:
    """Ray gives a node 30 seconds to start and no more, which a busy machine can exceed."""
    from ray.cluster_utils import Cluster

    for last in (False, False, True):
        try:
            return Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        except Exception:
            if last:
                raise


@pytest.mark.verify
class TestRayExecutor(ExecutorContract):
    @pytest.fixture
    def make(self, cluster: Any) -> Make:
        def build(**parameters: object) -> Executor:
            return create_executor(
                ExecutorParameters.model_validate({**parameters, "backend": "ray"})
            )

        return build


def test_a_node_that_is_killed_costs_nothing(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=2)
    started, release = tmp_path / "started", tmp_path / "release"
    items = [
        {"number": number, "started": str(started), "release": str(release)} for number in range(40)
    ]

    def kill_the_node_midway() -> None:
        # Every actor is in the middle of an item, two of them on the node that goes.
        assert eventually(lambda: len(pids(started)) == 4, 120)
        at_work = pids(started)
        cluster.remove_node(node, allow_graceful=False)
        # Processes of a node on this machine outlive it by a moment; those of a machine would not.
        assert eventually(lambda: sum(map(is_running, at_work)) == 2, 60)
        release.touch()

    parameters = ExecutorParameters(backend="ray", workers=4, retries=3)
    killing = threading.Thread(target=kill_the_node_midway)
    killing.start()
    with create_executor(parameters) as executor, Journal(tmp_path / "journal") as journal:
        outcomes = [outcome for _, outcome in executor.map(f"{WORKS}:released", items, journal)]
    killing.join()
    assert not any(map(is_running, pids(started))), "the workers of the dead node are gone too"
    assert {outcome.status for outcome in outcomes} == {Status.DONE}
    assert sum(outcome.attempts > 1 for outcome in outcomes) == 2
    with Journal(tmp_path / "journal") as journal:
        recorded = [outcome.value["number"] for _, outcome in journal.items()]
        assert sorted(recorded) == list(range(40)) and journal.duplicates == 0


def pids(started: Path) -> set[int]:
    return set(map(int, started.read_text().split())) if started.exists() else set()


@pytest.mark.verify
def test_killing_the_driver_leaves_no_process_in_the_cluster(cluster: Any, tmp_path: Path) -> None:
    marker = f"{os.getpid()}7"
    program = start_program(tmp_path, "run_for_long", 4, marker, "ray", RAY_ADDRESS=cluster.address)
    try:
        assert eventually(lambda: sum(f"601.{marker}" in p for p in processes(marker)) >= 2, 60)
        assert eventually(lambda: sum(f"600.{marker}" in p for p in processes(marker)) == 2)
    finally:
        program.kill()
        program.communicate()
    assert eventually(lambda: not processes(f".{marker}")), processes(marker)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'curricle\[ray\]'"):
        create_executor(ExecutorParameters(backend="ray"))
