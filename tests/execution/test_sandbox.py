"""bubblewrap keeps the contract."""

from collections.abc import Iterator

import pytest

from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.contract import SandboxContract
from curricle.execution.sandbox import Sandbox


class TestBubblewrap(SandboxContract):
    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Iterator[Sandbox]:
        with BubblewrapSandbox() as sandbox:
            yield sandbox
