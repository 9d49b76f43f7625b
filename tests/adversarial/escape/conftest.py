"""The default sandbox, run cold and warm."""

from collections.abc import Iterator

import pytest

from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.contract import Ground, Runner, make_ground
from curricle.execution.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with BubblewrapSandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(params=["cold", "warm"])
def run(request: pytest.FixtureRequest, sandbox: Sandbox, ground: Ground) -> Runner:
    return Runner(sandbox, ground, request.param == "warm")
