"""gVisor keeps the contract, on machines that have it."""

import shutil
from collections.abc import Iterator

import pytest

from curricle.execution.contract import Ground, Runner, SandboxContract
from curricle.execution.gvisor import RunscSandbox
from curricle.execution.sandbox import Sandbox

if shutil.which("runsc"):

    @pytest.mark.verify
    class TestRunsc(SandboxContract):
        @pytest.fixture(scope="class")
        @classmethod
        def sandbox(cls) -> Iterator[Sandbox]:
            with RunscSandbox() as sandbox:
                yield sandbox

        @pytest.fixture
        def run(self, sandbox: Sandbox, ground: Ground) -> Runner:
            return Runner(sandbox, ground, is_warm=False)
