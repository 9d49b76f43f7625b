"""Ways to the machine: its network, files, processes, kernel interfaces. None works."""

import contextlib
import os
import secrets
import socket
import threading
import time
from pathlib import Path

import pytest

from curricle.execution.contract import LIMITS, Runner
from curricle.languages.commands import Limit, Output

TRY = """
import sys
def attempt(name, action):
    try:
        result = action()
    except BaseException as error:
        print(name, "refused", type(error).__name__)
    else:
        print(name, "ESCAPED", result)
"""


def escapes(output: Output) -> list[str]:
    """What a program of attempts got away with; it has to have tried all of them."""
    lines = output.stdout.splitlines()
    assert lines
    assert output.exit_code == 0, output.stderr
    return [line for line in lines if "ESCAPED" in line]


def test_nothing_leaves_over_tcp(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = (
            TRY
            + """
import socket
for address in (("127.0.0.1", int(sys.argv[1])), ("192.0.2.1", 80), ("169.254.169.254", 80)):
    attempt(address, lambda: socket.create_connection(address, 2))
attempt("v6", lambda: socket.create_connection(("2001:db8::1", 80), 2))
attempt("name", lambda: socket.getaddrinfo("pypi.org", 443))
"""
        )
        assert escapes(run(program, str(server.getsockname()[1]))) == []
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_nothing_leaves_over_udp(run: Runner) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 0))
        server.settimeout(0.2)
        program = (
            TRY
            + """
import socket
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
port = int(sys.argv[1])
probe.sendto(b"to ourselves", ("127.0.0.1", port))
for host in ("192.0.2.1", "255.255.255.255", "224.0.0.1"):
    attempt(host, lambda: probe.sendto(b"x", (host, port)))
"""
        )
        assert escapes(run(program, str(server.getsockname()[1]))) == []
        with pytest.raises(TimeoutError):
            server.recv(64)


def test_sockets_of_the_machine_are_out_of_reach(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # addresses of sockets are short
    abstract = f"\0curricle-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as named:
        server.bind(abstract)
        server.listen()
        named.bind("socket")
        named.listen()
        program = (
            TRY
            + """
import socket
for address in ("\\0" + sys.argv[1], sys.argv[2], "/run/docker.sock", "/var/run/docker.sock",
                "/run/dbus/system_bus_socket", "/run/systemd/private"):
    attempt(address, lambda: socket.socket(socket.AF_UNIX).connect(address))
"""
        )
        assert escapes(run(program, abstract[1:], str(tmp_path / "socket"))) == []


def test_other_families_of_sockets_do_not_exist(run: Runner) -> None:
    program = (
        TRY
        + """
import socket
for family in (socket.AF_VSOCK, socket.AF_PACKET, socket.AF_ALG, 31, 44):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        attempt(family, lambda: socket.socket(family, kind))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
"""
    )
    assert escapes(run(program)) == []


def test_a_planted_secret_cannot_be_read(run: Runner, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(token := secrets.token_hex())
    secret.chmod(0o644)
    program = (
        TRY
        + """
import os, glob
for path in (sys.argv[1], "/proc/1/root" + sys.argv[1], "/proc/self/root" + sys.argv[1],
             "/etc/shadow", "/root/.bashrc", "/.cage/tree/src/answer.py", "/proc/kcore",
             "/newroot" + sys.argv[1], "/oldroot" + sys.argv[1], "/dev/vda", "/dev/sda",
             "/dev/mem"):
    attempt(path, lambda: open(path).read())
for process in glob.glob("/proc/[0-9]*"):
    for name in ("environ", "mem"):
        if int(process[6:]) != os.getpid():
            attempt(process + name, lambda: open(process + "/" + name).read())
    if int(process[6:]) != os.getpid():
        attempt(process, lambda: os.listdir(process + "/root/.cage"))
"""
    )
    output = run(program, str(secret))
    assert escapes(output) == []
    assert token not in output.stdout


def test_nothing_outside_can_be_written(run: Runner, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    program = (
        TRY
        + """
import os
for folder in (sys.argv[1], "/", "/usr", "/usr/bin", "/etc", "/dev", "/run", "/var/tmp", "/root",
               "/.cage", "/proc/sys/kernel", "/sys", sys.base_prefix, sys.base_prefix + "/lib"):
    attempt(folder, lambda: open(folder + "/planted", "w"))
    attempt(folder, lambda: os.mkdir(folder + "/planted-folder"))
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/etc/passwd",
             "/proc/sys/user/max_user_namespaces", os.path.realpath(sys.executable)):
    attempt(path, lambda: open(path, "a").write("x"))
    attempt(path, lambda: os.chmod(path, 0o777))
"""
    )
    assert escapes(run(program, str(tmp_path))) == []
    assert list(tmp_path.iterdir()) == []


def test_no_privilege_is_there_or_can_be_gained(run: Runner) -> None:
    program = (
        TRY
        + """
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
status = open("/proc/self/status").read()
for line in status.splitlines():
    if line.startswith("Cap") and int(line.split()[1], 16):
        print("ESCAPED", line)
    if line.startswith("NoNewPrivs") and line.split()[1] != "1":
        print("ESCAPED", line)
for name, flag in (("user", 0x10000000), ("mount", 0x20000), ("pid", 0x20000000),
                   ("net", 0x40000000)):
    attempt("unshare " + name, lambda: call("unshare", flag))
attempt("clone user", lambda: subprocess.run(["unshare", "-Ur", "id"], check=True))
attempt("setuid", lambda: os.setuid(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
attempt("remount", lambda: call("mount", b"none", b"/", None, 32 | 4096, None))
for path in (b"/.cage", b"/work", b"/proc", b"/tmp", b"/dev/shm"):
    attempt("umount " + path.decode(), lambda: call("umount2", path, 2))
attempt("chroot", lambda: os.chroot("/work"))
attempt("hostname", lambda: call("sethostname", b"owned", 5))
attempt("device", lambda: os.mknod("/tmp/device", 0o020666, os.makedev(1, 8)))
attempt("ns", lambda: call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
is_x86 = os.uname().machine == "x86_64"
attempt("keyring", lambda: call("syscall", 250 if is_x86 else 219, 0, -3, 0))
attempt("bpf", lambda: call("syscall", 321 if is_x86 else 280, 0, 0, 0))
attempt("io_uring", lambda: call("syscall", 425, 8, ctypes.create_string_buffer(120)))
"""
    )
    assert escapes(run(program)) == []


def test_for_the_machine_a_run_is_not_root(run: Runner) -> None:
    mark = f"curricle-uid-{secrets.token_hex(6)}"
    program = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", sys.argv[1]])
"""
    thread = threading.Thread(target=run, args=(program, mark))
    thread.start()
    users: set[int] = set()
    deadline = time.monotonic() + 20
    while not users and time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (path / "cmdline").read_text():
                    users.add(path.stat().st_uid)
        time.sleep(0.05)
    thread.join()
    assert users
    assert 0 not in users


def test_the_parent_and_the_kept_processes_are_out_of_reach(run: Runner) -> None:
    program = (
        TRY
        + """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def trace(pid):
    if libc.ptrace(16, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
for pid in (int(sys.argv[1]), os.getppid(), 1, 2, 3):
    if pid != os.getpid():
        attempt(f"ptrace {pid}", lambda: trace(pid))
for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGINT):
    os.kill(1, number)  # allowed, and without effect
    attempt("kill parent", lambda: os.kill(int(sys.argv[1]), number))
os.setpgid(0, 0) if os.getsid(0) != os.getpid() else None
visible = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
if len(visible) > 2:
    print("ESCAPED", visible)
attempt("kill all", lambda: os.kill(-1, signal.SIGKILL))
"""
    )
    output = run(program, str(os.getpid()))
    assert escapes(output) == []
    assert run("print('still there')").stdout == "still there\n"


def test_no_terminal_and_no_descriptor_is_inherited(run: Runner) -> None:
    program = (
        TRY
        + """
import fcntl, os, termios
def push():
    fcntl.ioctl(0, termios.TIOCSTI, b"x")
attempt("terminal", lambda: open("/dev/tty"))
attempt("push", push)
own = os.open("/proc/self/fd", os.O_RDONLY)
extra = [fd for fd in os.listdir(own) if int(fd) > 2 and int(fd) != own]
for fd in extra:
    attempt(fd, lambda: os.readlink(f"/proc/self/fd/{fd}"))
"""
    )
    assert escapes(run(program)) == []


def test_shared_memory_and_queues_of_the_machine_are_not_there(run: Runner) -> None:
    name = Path("/dev/shm") / f"curricle-{secrets.token_hex(6)}"
    name.write_text("shared")
    try:
        program = (
            TRY
            + """
import os
attempt("shm", lambda: open(sys.argv[1]).read())
for path in ("/proc/sysvipc/shm", "/proc/sysvipc/msg", "/proc/sysvipc/sem"):
    if len(open(path).read().splitlines()) > 1:
        print("ESCAPED", path)
"""
        )
        assert escapes(run(program, str(name))) == []
    finally:
        name.unlink()


def test_hanging_on_to_life_does_not_help(run: Runner) -> None:
    program = """
import os, signal, time
for number in range(1, 64):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        break
while True:
    time.sleep(1)
"""
    begun = time.monotonic()
    output = run(program, limits=LIMITS.model_copy(update={"wall_s": 0.5}))
    assert output.limits_hit == {Limit.WALL}
    assert time.monotonic() - begun < 20
