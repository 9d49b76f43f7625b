"""What does isolation cost per launch, over starting the same program without any?

Alternates a plain `subprocess.run` of `/usr/bin/true`, the same program in the default sandbox
(with a change laid over a small project), and a call in a warm Python server, `--rounds` times.
The first launch of a project, which builds the outer wall, is reported apart. Usage:

    python benchmarks/sandbox_overhead.py [--rounds 200]

The ratio is the median overhead of a launch over the bound of 25 ms; exit status 1 when above 1.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.contract import WARM_PYTHON, make_ground
from curricle.execution.limits import Limits
from curricle.execution.wall import base_interpreter
from curricle.languages.commands import Command

BOUND_MS = 25.0
PROGRAM = "/usr/bin/true"


def milliseconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1e3


def main() -> int:
    """Measure; 0 when the overhead stays below its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    changes = {"src/answer.py": "ANSWER = 42\n"}
    warm_command = Command(
        (base_interpreter(), "-I", "-S", "-B", "-c", "pass"), warm=WARM_PYTHON.name
    )
    with tempfile.TemporaryDirectory() as folder, BubblewrapSandbox() as sandbox:
        prepared = make_ground(Path(folder)).prepared
        limits = Limits()

        def sandboxed() -> None:
            output = sandbox.run(Command((PROGRAM,)), prepared, changes, limits)
            assert output.exit_code == 0, output

        def warm() -> None:
            output = sandbox.run(warm_command, prepared, changes, limits, warm=(WARM_PYTHON,))
            assert output.exit_code == 0, output

        actions: dict[str, Callable[[], object]] = {
            "plain": lambda: subprocess.run([PROGRAM], check=True),
            "plain_python": lambda: subprocess.run(warm_command.argv, check=True),
            "sandboxed": sandboxed,
            "warm": warm,
        }
        for name, action in actions.items():
            print(f"first {name}: {milliseconds(action):.1f} ms")
        times: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(rounds):
            for name, action in actions.items():
                times[name].append(milliseconds(action))
    for name, values in times.items():
        print(f"{name}: median {statistics.median(values):.2f} ms, least {min(values):.2f} ms")
    overhead = statistics.median(
        inside - outside for inside, outside in zip(times["sandboxed"], times["plain"], strict=True)
    )
    print(f"overhead of a launch: median {overhead:.2f} ms, bound {BOUND_MS:g} ms")
    print(f"sandbox_overhead ratio={overhead / BOUND_MS:.2f} goal=1")
    return int(overhead > BOUND_MS)


if __name__ == "__main__":
    sys.exit(main())
