"""Local processes keep the contract of executors, and clear up however their parent ends."""

from __future__ import annotations

import pytest

from curricle.config.execution import ExecutorParameters
from curricle.execution.executor import Executor
from curricle.execution.executor_contract import ExecutorContract, Make
from curricle.execution.local_executor import LocalExecutor


class TestLocalExecutor(ExecutorContract):
    @pytest.fixture
    def make(self) -> Make:
        def build(**parameters: object) -> Executor:
            return LocalExecutor(ExecutorParameters.model_validate(parameters))

        return build
