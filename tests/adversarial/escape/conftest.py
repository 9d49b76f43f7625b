"""Every sandbox of this machine: bubblewrap run cold and warm, and gVisor where it is installed."""

import shutil
from collections.abc import Iterator

import pytest

from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.contract import Ground, Runner, make_ground
from curricle.execution.gvisor import RunscSandbox

WAYS = ["bubblewrap-cold", "bubblewrap-warm"]
# Half a second for each run: only `make verify`.
GVISOR = [pytest.param("runsc-cold", marks=pytest.mark.verify)] if shutil.which("runsc") else []


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module", params=[*WAYS, *GVISOR])
def run(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Runner]:
    backend, _, way = request.param.partition("-")
    with RunscSandbox() if backend == "runsc" else BubblewrapSandbox() as sandbox:
        yield Runner(sandbox, ground, way == "warm")
