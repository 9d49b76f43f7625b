"""bubblewrap keeps the contract."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.contract import LIMITS, Runner, SandboxContract, is_running, make_ground
from curricle.execution.sandbox import Sandbox
from curricle.languages.commands import WORK, Command


class TestBubblewrap(SandboxContract):
    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Iterator[Sandbox]:
        with BubblewrapSandbox() as sandbox:
            yield sandbox


OWNER = """
import sys
from pathlib import Path
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.contract import Runner, make_ground
run = Runner(BubblewrapSandbox(), make_ground(Path(sys.argv[1])), sys.argv[2] == "warm")
program = (
    "import os, subprocess, sys; os.fork(); os.setsid() if os.getpid() != os.getsid(0) else 0;"
    "subprocess.run([sys.executable, '-c', 'import time; time.sleep(300)', sys.argv[1]])"
)
run(program, sys.argv[3])
"""


@pytest.mark.parametrize("way", ["cold", "warm"])
def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path, way: str) -> None:
    mark = f"{tmp_path.name}-{time.monotonic_ns()}"
    # In its argument list the mark is split, so that only the run's processes have it.
    argv = [sys.executable, "-c", OWNER.replace("sys.argv[3]", f"'{mark[:9]}' + '{mark[9:]}'")]
    owner = subprocess.Popen([*argv, str(tmp_path), way])
    try:
        _wait_for(lambda: is_running(mark))
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    _wait_for(lambda: not is_running(mark) and not is_running(str(tmp_path)))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_closing_leaves_no_process_and_no_control_group(tmp_path: Path) -> None:
    sandbox = BubblewrapSandbox()
    ground = make_ground(tmp_path)
    for is_warm in (False, True):
        assert Runner(sandbox, ground, is_warm)("").exit_code == 0
    places = [Path(place) for kept in sandbox._kept.values() for place in kept._group.places]
    sandbox.close()
    assert not any(place.exists() for place in places)


def test_many_projects_keep_few_processes(tmp_path: Path) -> None:
    with BubblewrapSandbox() as sandbox:
        for number in range(14):
            folder = tmp_path / str(number)
            folder.mkdir()
            assert Runner(sandbox, make_ground(folder), False)("").exit_code == 0
        assert len(sandbox._kept) == 12


def test_a_sandbox_outlives_the_thread_that_used_it_first(tmp_path: Path) -> None:
    with BubblewrapSandbox() as sandbox:
        run = Runner(sandbox, make_ground(tmp_path), False)
        thread = threading.Thread(target=run, args=("",))
        thread.start()
        thread.join()
        time.sleep(0.5)
        assert run("print('again')").stdout == "again\n"


def test_a_toolchain_below_a_place_of_the_run_is_visible(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tool.txt").write_text("tool\n")
    with BubblewrapSandbox() as sandbox:
        output = sandbox.run(
            Command(("/bin/sh", "-c", f"cat {tools}/tool.txt; pwd; touch {tools}/x")),
            make_ground(tmp_path / "ground").prepared, {}, LIMITS, binds=(str(tools),),
        )  # fmt: skip
    assert output.stdout == f"tool\n{WORK}\n"
    assert output.exit_code != 0


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
