"""What every sandbox promises, as a test-suite.

A test module inherits it and gives the sandbox, and the ways to start a Python program in it:

    class TestMySandbox(SandboxContract):
        @pytest.fixture(scope="class")
        @classmethod
        def sandbox(cls):
            with MySandbox() as sandbox:
                yield sandbox
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from curricle.errors import ConfigError, DataError
from curricle.execution.limits import MIB, Limits
from curricle.execution.sandbox import Sandbox
from curricle.execution.wall import base_interpreter
from curricle.languages.commands import WARM_SERVER, Command, Limit, Output, Warm
from curricle.languages.project import Changes, Prepared, Project

_MAIN = "curricle.execution.inside.interpreter:main"
WARM_PYTHON = Warm("python", (base_interpreter(), "-I", "-S", "-B", WARM_SERVER, _MAIN))
LIMITS = Limits(wall_s=30, memory_bytes=256 * MIB, pids=32, disk_bytes=16 * MIB, output_bytes=MIB)
ORIGINAL = "ANSWER = 41\n"


@dataclass(frozen=True)
class Ground:
    """A small project and its cache, in folders that only their owner can enter."""

    folder: Path
    prepared: Prepared

    @property
    def tree(self) -> Path:
        """The pristine tree."""
        return self.prepared.project.root

    @property
    def cache(self) -> Path:
        """The cache that was prepared."""
        assert self.prepared.cache is not None
        return self.prepared.cache


@dataclass(frozen=True)
class Runner:
    """Runs Python programs in a sandbox, in one of two ways.

    Attributes:
        sandbox: Where.
        ground: The project that they see.
        is_warm: By a fork of a warm server, or as a new process.
    """

    sandbox: Sandbox
    ground: Ground
    is_warm: bool

    def __call__(
        self,
        program: str,
        *arguments: str,
        changes: Changes | None = None,
        limits: Limits = LIMITS,
        reports: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        cwd: str = ".",
    ) -> Output:
        """Run a program, and give what it did."""
        argv = (base_interpreter(), "-I", "-S", "-B", "-c", program, *arguments)
        command = Command(
            argv, cwd, env or {}, stdin, reports, warm=WARM_PYTHON.name if self.is_warm else None
        )
        return self.sandbox.run(
            command, self.ground.prepared, changes or {}, limits, warm=(WARM_PYTHON,)
        )


def make_ground(folder: Path) -> Ground:
    """A project with a source, a file that its owner alone may read, and a link; and a cache."""
    tree, cache = folder / "tree", folder / "cache"
    (tree / "src").mkdir(parents=True)
    (tree / "src" / "answer.py").write_text(ORIGINAL)
    (tree / "private.txt").write_text("private\n")
    (tree / "private.txt").chmod(0o600)
    (tree / "outside").symlink_to("/tmp")
    (cache / "deep").mkdir(parents=True)
    (cache / "deep" / "built").write_text("built\n")
    folder.chmod(0o700)
    project = Project("ground", "python", tree, f"ground-{folder}", ("src/*.py",), ())
    return Ground(folder, Prepared(project, cache, f"ground-{folder}"))


class SandboxContract:
    """Inherit this; give `sandbox`."""

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Iterator[Sandbox]:
        """The sandbox under test."""
        raise NotImplementedError("give the sandbox under test as a fixture of this name")

    @pytest.fixture(scope="class")
    @classmethod
    def ground(cls, tmp_path_factory: pytest.TempPathFactory) -> Ground:
        """The project that runs see."""
        return make_ground(tmp_path_factory.mktemp("ground"))

    @pytest.fixture(params=["cold", "warm"])
    def run(self, request: pytest.FixtureRequest, sandbox: Sandbox, ground: Ground) -> Runner:
        """Both ways to run: the answers are the same."""
        return Runner(sandbox, ground, request.param == "warm")

    def test_a_run_gives_its_exit_code_and_both_outputs(self, run: Runner) -> None:
        output = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
        assert (output.exit_code, output.stdout, output.stderr) == (7, "out\n", "err\n")
        assert not output.limits_hit

    def test_a_run_that_raises_ends_with_one_and_a_traceback(self, run: Runner) -> None:
        output = run("raise KeyError('gone')")
        assert output.exit_code == 1
        assert "KeyError: 'gone'" in output.stderr

    def test_a_signal_is_its_number_below_zero(self, run: Runner) -> None:
        output = run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        assert output.exit_code == -signal.SIGSEGV

    def test_a_program_that_is_not_there_ends_with_127(self, run: Runner) -> None:
        output = run.sandbox.run(Command(("/no/such/program",)), run.ground.prepared, {}, LIMITS)
        assert output.exit_code == 127

    def test_standard_input_and_arguments_arrive(self, run: Runner) -> None:
        text = "line\n" * 100_000
        output = run("import sys; print(len(sys.stdin.read()), sys.argv[1:])", "a b", stdin=text)
        assert output.stdout == f"{len(text)} ['a b']\n"

    def test_standard_input_is_empty_when_none_is_given(self, run: Runner) -> None:
        assert run("import sys; print(repr(sys.stdin.read()))").stdout == "''\n"

    def test_the_environment_is_only_what_the_command_says(
        self, run: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "secret")
        output = run("import os; print(sorted(os.environ))", env={"MINE": "1"})
        names = set(eval(output.stdout))
        assert "MINE" in names
        assert names <= {"MINE", "PATH", "HOME", "TMPDIR", "LANG", "LC_CTYPE", "PWD"}

    def test_a_run_starts_in_the_project_or_a_folder_of_it(self, run: Runner) -> None:
        assert run("import os; print(os.getcwd())").stdout == "/work\n"
        assert run("import os; print(os.listdir())", cwd="src").stdout == "['answer.py']\n"

    def test_changes_replace_add_and_delete(self, run: Runner) -> None:
        program = (
            "import os; print(open('src/answer.py').read(), open('new/deep.py').read(),"
            "os.path.exists('private.txt'))"
        )
        changes = {"src/answer.py": "ANSWER = 42", "new/deep.py": "x", "private.txt": None}
        assert run(program, changes=changes).stdout == "ANSWER = 42 x False\n"
        assert (run.ground.tree / "src/answer.py").read_text() == ORIGINAL

    def test_the_text_beneath_a_change_cannot_be_read(self, run: Runner) -> None:
        program = """
import os, sys
sys.setrecursionlimit(10000)
found = []
for folder, folders, files in os.walk("/", onerror=lambda error: None):
    folders[:] = [f for f in folders if folder != "/" or f not in ("proc", "usr")]
    for file in files:
        if file == "answer.py":
            path = os.path.join(folder, file)
            found.append((path, open(path).read()))
print(found)
"""
        output = run(program, changes={"src/answer.py": "ANSWER = 0\n"})
        assert eval(output.stdout) == [("/work/src/answer.py", "ANSWER = 0\n")]

    def test_the_tree_and_the_cache_can_be_written_and_nothing_of_it_stays(
        self, run: Runner
    ) -> None:
        program = """
import os
for path in ("/work/private.txt", "/cache/deep/built"):
    with open(path, "a") as stream:
        stream.write("more")
    print(open(path).read())
os.remove("/work/src/answer.py")
os.mkdir("/cache/deep/er")
os.rename("/cache/deep/built", "/cache/deep/er/built")
for path in ("/work/src/x", "/cache/x", "/tmp/x", "/dev/shm/x", "/report/x"):
    open(path, "w").close()
"""
        look = "import os; print([os.listdir(p) for p in ('/tmp', '/dev/shm', '/report')])"
        for _ in range(2):
            output = run(program)
            assert output.stdout == "private\nmore\nbuilt\nmore\n", output.stderr
        assert run(look).stdout == "[[], [], []]\n"
        assert (run.ground.tree / "src/answer.py").read_text() == ORIGINAL
        assert (run.ground.cache / "deep/built").read_text() == "built\n"
        assert sorted(p.name for p in run.ground.tree.rglob("*") if p.is_file()) == [
            "answer.py",
            "private.txt",
        ]

    def test_reports_are_collected_and_missing_ones_are_absent(self, run: Runner) -> None:
        program = "open('/report/a.json', 'w').write('{}')"
        assert dict(run(program, reports=("a.json", "b.json")).reports) == {"a.json": "{}"}

    def test_a_report_that_is_no_plain_file_is_absent(self, run: Runner) -> None:
        program = """
import os
os.symlink("/etc/passwd", "/report/link")
os.mkfifo("/report/pipe")
os.mkdir("/report/folder")
os.chmod("/report", 0)
"""
        output = run(program, reports=("link", "pipe", "folder"))
        assert not output.reports
        assert output.exit_code == 0

    def test_a_report_that_is_too_long_is_a_limit_that_was_hit(self, run: Runner) -> None:
        output = run("open('/report/a', 'w').write('x' * (2 << 20))", reports=("a",))
        assert not output.reports
        assert output.limits_hit == {Limit.OUTPUT}

    def test_a_run_without_end_is_ended_by_the_clock(self, run: Runner) -> None:
        started = time.monotonic()
        limits = LIMITS.model_copy(update={"wall_s": 0.5})
        output = run("import time; print('begun', flush=True); time.sleep(60)", limits=limits)
        assert output.limits_hit == {Limit.WALL}
        assert output.stdout == "begun\n"
        assert output.exit_code != 0
        assert time.monotonic() - started < 20

    def test_output_is_cut_at_its_limit(self, run: Runner) -> None:
        started = time.monotonic()
        output = run("while True: print('y' * 1000)")
        assert output.limits_hit == {Limit.OUTPUT}
        assert len(output.stdout) <= LIMITS.output_bytes + 1
        assert time.monotonic() - started < 20

    def test_memory_is_bounded(self, run: Runner) -> None:
        output = run("blocks = [b'x' * (8 << 20) * (n + 1) for n in range(40)]; print('all')")
        assert "all" not in output.stdout
        assert output.exit_code != 0
        if "cgroup" in output.isolation.limits["memory"]:
            assert Limit.MEMORY in output.limits_hit

    def test_the_processes_of_a_run_are_bounded(self, run: Runner) -> None:
        program = """
import os, time
started = 0
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        started += 1
except OSError:
    print(started)
"""
        output = run(program)
        assert 1 <= int(output.stdout) <= LIMITS.pids

    def test_what_is_written_is_bounded(self, run: Runner) -> None:
        program = """
import sys
with open(sys.argv[1], "wb", buffering=0) as stream:
    for _ in range(100):
        try:
            if stream.write(bytes(1 << 20)) < 1 << 20:
                raise OSError
        except OSError:
            print("full")
            break
"""
        for folder in ("/work", "/tmp", "/cache", "/report", "/dev/shm"):
            output = run(program, f"{folder}/filler")
            assert output.stdout == "full\n" or output.exit_code == -signal.SIGXFSZ, folder

    def test_processor_time_is_bounded_over_all_processes(self, run: Runner) -> None:
        program = "import os; os.fork(); os.fork()\nwhile True: pass"
        limits = LIMITS.model_copy(update={"cpu_s": 1.0, "wall_s": 15.0})
        output = run(program, limits=limits)
        assert output.limits_hit in ({Limit.CPU}, {Limit.WALL})
        if "cgroup" in output.isolation.limits["cpu"]:
            assert output.limits_hit == {Limit.CPU}

    def test_no_process_outlives_its_run(self, run: Runner) -> None:
        program = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(77)", sys.argv[1]])
    os._exit(0)
time.sleep(0.2)
"""
        mark = f"curricle-{os.getpid()}-{run.is_warm}"
        started = time.monotonic()
        assert run(program, mark).exit_code == 0
        assert time.monotonic() - started < 20
        assert not is_running(mark)

    def test_the_next_run_is_served_after_one_that_broke_every_limit(self, run: Runner) -> None:
        run("while True: blocks = [bytearray(1 << 28) for _ in range(9)]")
        run("import os\nwhile True: os.fork()", limits=LIMITS.model_copy(update={"wall_s": 1.0}))
        assert run("print('fine')").stdout == "fine\n"

    def test_changes_stay_inside_the_tree(self, run: Runner) -> None:
        for path in ("../outside.py", "/etc/passwd", "src/../../x", "", "."):
            with pytest.raises(DataError, match="not a path inside"):
                run("", changes={path: "x"})
        with pytest.raises(DataError, match="symbolic link"):
            run("", changes={"outside/x.py": "x"})

    def test_a_change_beneath_a_file_is_refused(self, run: Runner) -> None:
        with pytest.raises(DataError, match="cannot be laid over the tree"):
            run("", changes={"src/answer.py/deeper.py": "x"})

    def test_changes_that_need_too_much_room_hit_the_limit(self, run: Runner) -> None:
        output = run("print('ran')", changes={"src/answer.py": "x" * LIMITS.disk_bytes * 2})
        assert output.limits_hit == {Limit.DISK}
        assert output.stdout == ""

    def test_a_change_that_is_no_unicode_is_laid_over_as_it_is(self, run: Runner) -> None:
        program = "print(open('src/answer.py', 'rb').read())"
        assert run(program, changes={"src/answer.py": "\ud800"}).stdout == "b'\\xed\\xa0\\x80'\n"

    def test_a_change_replaces_a_link_and_does_not_follow_it(self, run: Runner) -> None:
        program = "import os; print(os.path.islink('outside'), open('outside').read())"
        assert run(program, changes={"outside": "text"}).stdout == "False text\n"

    def test_the_network_and_odd_reports_are_refused(self, run: Runner) -> None:
        with pytest.raises(ConfigError, match="network"):
            run.sandbox.run(Command(("true",), network=True), run.ground.prepared, {}, LIMITS)
        with pytest.raises(ConfigError, match="not the name"):
            run("", reports=("../x",))

    def test_every_record_says_how_isolated_it_was(self, run: Runner) -> None:
        isolation = run("").isolation
        assert isolation.backend == run.sandbox.name
        assert isolation.level == run.sandbox.level.name.lower()
        assert {"memory", "pids", "cpu", "wall", "output", "disk"} <= set(isolation.limits)


def is_running(mark: str) -> bool:
    """Whether a process of this machine has the mark among its arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False
