"""Ray keeps the contract of executors, and loses nothing when a node dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curricle.config.execution import ExecutorParameters
from curricle.errors import ConfigError
from curricle.execution import executor_contract
from curricle.execution.executor import Executor, create_executor
from curricle.execution.executor_contract import (
    ExecutorContract,
    Make,
    is_running,
    numbers,
)
from curricle.execution.journal import Journal, Status
from tests.execution.programs import eventually, processes, start_program

CONTRACT = executor_contract.__name__

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of this machine; tests add nodes to its head."""
    import ray
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    ray.init(address=found.address, log_to_driver=False)
    yield found
    ray.shutdown()
    found.shutdown()


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
    log = tmp_path / "log"
    parameters = ExecutorParameters(backend="ray", workers=4, retries=3)
    killed = False
    with create_executor(parameters) as executor, Journal(tmp_path / "journal") as journal:
        items = numbers(60, log=str(log), sleep_s=0.1)
        for _, outcome in executor.map(f"{CONTRACT}:square", items, journal):
            assert outcome.status is Status.DONE
            if not killed and len(journal) > 20 and len(pids(log)) == 4:
                cluster.remove_node(node, allow_graceful=False)
                killed = True
    assert killed
    assert not any(map(is_running, pids(log))), "the workers of the dead node are gone too"
    with Journal(tmp_path / "journal") as journal:
        values = [outcome.value["square"] for _, outcome in journal.items()]
        assert sorted(values) == [number**2 for number in range(60)]
        assert journal.duplicates == 0
        # At least one item was under way on the node that died, and was tried again elsewhere.
        assert any(outcome.attempts > 1 for _, outcome in journal.items())


def pids(log: Path) -> set[int]:
    return {int(line.split()[1]) for line in log.read_text().splitlines()}


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
