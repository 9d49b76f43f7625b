"""Ways to the next run, to the results, and past the bounds. None works."""

import os
import secrets
from pathlib import Path

import pytest

from curricle.execution.contract import LIMITS, ORIGINAL, Runner
from curricle.execution.limits import MIB
from curricle.languages.commands import Limit

WALK = """
import os, sys
found = []
def plant(folder):
    path = os.path.join(folder, sys.argv[1])
    try:
        open(path, "w").close()
        found.append(path)
    except OSError:
        pass
    try:
        os.chmod(folder, 0o777)
    except OSError:
        pass
for folder, folders, files in os.walk("/"):
    if folder.startswith("/proc/") and folder.count("/") > 2:
        folders[:] = []
        continue
    if sys.argv[1] in files:
        print("FOUND", folder)
    plant(folder)
print(len(found))
"""


def test_a_file_left_anywhere_is_gone_for_the_next_run(run: Runner) -> None:
    mark = f"left-{secrets.token_hex(6)}"
    first = run(WALK, mark)
    assert int(first.stdout.splitlines()[-1]) >= 5, first.stderr  # /work, /cache, /tmp, ...
    second = run(WALK, mark)
    assert "FOUND" not in second.stdout
    assert not list(run.ground.folder.rglob(mark))


def test_a_cache_cannot_be_poisoned(run: Runner) -> None:
    program = """
import os, shutil, sys
shutil.rmtree("/cache/deep")
os.symlink("/tmp", "/cache/deep")
open("/cache/new", "w").write("poison")
for name in ("os.py", "json/__init__.py"):
    try:
        open(os.path.join(os.path.dirname(os.__file__), name), "a").write("poison")
        print("ESCAPED")
    except OSError:
        pass
sys.modules["json"] = None
os.environ["POISON"] = "1"
__import__("builtins").len = lambda _: 7
"""
    assert run(program).stdout == ""
    look = "import json, os; print(os.listdir('/cache'), len('ab'), 'POISON' in os.environ)"
    assert run(look).stdout == "['deep'] 2 False\n"
    assert (run.ground.cache / "deep" / "built").read_text() == "built\n"


def test_memory_holds_nothing_of_earlier_runs(run: Runner) -> None:
    mark = secrets.token_hex(16)
    run("import sys; print(sys.stdin.read())", changes={"src/answer.py": mark * 1000}, stdin=mark)
    program = """
import sys
needle = bytes(reversed(sys.argv[1].encode()))
found = 0
for line in open("/proc/self/maps"):
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    if "r" in line.split()[1] and "[v" not in line:
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            while start < end:
                part = memory.read(min(end - start, 1 << 20))
                if not part:
                    break
                found += part.count(needle)
                start += len(part)
print(found)
"""
    # Its own copy of the needle may be met twice: turned around, and within what was just read.
    output = run(program, mark[::-1])
    assert output.exit_code == 0, output.stderr
    assert int(output.stdout) < 20


def test_every_fork_draws_its_own_random_numbers(run: Runner) -> None:
    program = "import random, os; print(random.random(), os.urandom(8))"
    assert run(program).stdout != run(program).stdout


def test_links_in_place_of_reports_lead_nowhere(run: Runner, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    program = """
import os, sys
targets = (sys.argv[1], "/etc/passwd", "/proc/self/environ", "/proc/1/environ")
for number, target in enumerate(targets):
    os.symlink(target, f"/report/{number}")
os.link("/report/0", "/report/4")
os.mkfifo("/report/5")
os.symlink("/", "/report/6")
"""
    output = run(program, str(secret), reports=tuple(map(str, range(7))))
    assert dict(output.reports) == {}
    assert output.exit_code == 0


def test_a_report_that_changes_until_the_end_is_no_race(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    program = """
import os, sys, time
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        while True:
            for make in (lambda: open("/report/.a", "w").close(),
                         lambda: os.symlink(sys.argv[1], "/report/.a")):
                try:
                    make()
                    os.rename("/report/.a", "/report/a")
                except OSError:
                    pass
time.sleep(0.3)
"""
    for _ in range(5):
        output = run(program, str(tmp_path / "secret"), reports=("a",))
        assert output.reports.get("a", "") == ""


def test_a_tree_with_links_gives_no_way_out_to_changes(run: Runner) -> None:
    before = sorted(os.listdir("/tmp"))
    output = run("print(open('outside').read())", changes={"outside": "mine"})
    assert output.stdout == "mine\n"
    assert (run.ground.tree / "outside").is_symlink()
    assert [name for name in sorted(os.listdir("/tmp")) if name not in before] == []


def test_a_fork_bomb_ends(run: Runner) -> None:
    program = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
    limits = LIMITS.model_copy(update={"wall_s": 1.0})
    output = run(program, limits=limits)
    assert output.exit_code != 0
    assert output.limits_hit & {Limit.PIDS, Limit.WALL}
    assert run("print('fine')").stdout == "fine\n"


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/work", "/report"])
def test_files_in_memory_count(run: Runner, folder: str) -> None:
    program = """
import os, sys
blocks = []
for number in range(64):
    try:
        with open(f"{sys.argv[1]}/{number}", "wb") as stream:
            stream.write(bytes(8 << 20))
    except OSError:
        print("full")
        break
else:
    print("unbounded")
"""
    output = run(program, folder, limits=LIMITS.model_copy(update={"disk_bytes": 64 * MIB}))
    assert "unbounded" not in output.stdout
    assert output.limits_hit & {Limit.DISK, Limit.MEMORY}


def test_many_small_files_are_bounded(run: Runner) -> None:
    program = """
import os
try:
    for number in range(1 << 20):
        os.close(os.open(f"/tmp/{number}", os.O_CREAT))
except OSError:
    print("full")
"""
    output = run(program)
    assert output.stdout == "full\n" or output.limits_hit & {Limit.MEMORY, Limit.WALL}


def test_a_memory_bomb_of_many_processes_ends(run: Runner) -> None:
    program = """
import os
for _ in range(16):
    if os.fork() == 0:
        break
blocks = [b"x" * (4 << 20) * (n + 1) for n in range(30)]
import time
time.sleep(1)
print("all")
"""
    output = run(program, limits=LIMITS.model_copy(update={"wall_s": 10.0}))
    if "cgroup" in output.isolation.limits["memory"]:
        assert Limit.MEMORY in output.limits_hit
        assert output.stdout.count("all") < 16


def test_a_flood_on_both_outputs_is_cut(run: Runner) -> None:
    program = """
import os, threading
def flood(descriptor):
    while True:
        os.write(descriptor, b"x" * 65536)
threading.Thread(target=flood, args=(2,), daemon=True).start()
flood(1)
"""
    output = run(program)
    assert output.limits_hit == {Limit.OUTPUT}
    assert len(output.stdout) + len(output.stderr) <= 2 * LIMITS.output_bytes + 2


def test_a_candidate_cannot_make_itself_an_infrastructure_fault(run: Runner) -> None:
    program = """
import os, sys
print("bwrap: No permissions to create new namespace", file=sys.stderr)
for number in range(3, 256):
    try:
        os.write(number, b"a\\x00\\x00\\x00\\x02{}")
    except OSError:
        pass
os.kill(os.getppid(), 9)
os._exit(1)
"""
    output = run(program)
    assert output.exit_code == 1
    assert output.stderr.startswith("bwrap: ")


def test_the_original_is_nowhere_to_be_found(run: Runner) -> None:
    program = """
import os, subprocess
needle = bytes(reversed(b"14 = REWSNA"))
for folder, folders, files in os.walk("/", onerror=lambda error: None):
    folders[:] = [f for f in folders if folder != "/" or f not in ("proc", "usr", "dev")]
    for name in files:
        try:
            if needle in open(os.path.join(folder, name), "rb").read(1 << 20):
                print("FOUND", folder, name)
        except OSError:
            pass
"""
    assert ORIGINAL.startswith("ANSWER = 41")
    output = run(program, changes={"src/answer.py": "ANSWER = 0\n"})
    assert (output.exit_code, output.stdout) == (0, "")
