"""Runs inside a sandbox and tries to get out. Standard library only; prints what it found as JSON.

Its argument is JSON: addresses that listen on the machine, folders and a secret that are there.
Each finding is a sentence on what should not have been possible.
"""

import errno
import json
import os
import socket
import sys
from pathlib import Path

_NOWHERE = ("192.0.2.1", 9)  # RFC 5737: documentation only


def reaches(kind: int, family: int, address: object) -> bool:
    """Whether a packet or a connection could be sent there."""
    with socket.socket(family, kind) as probe:
        probe.settimeout(2)
        try:
            probe.connect(address)  # type: ignore[arg-type]
            probe.send(b"curricle")
        except OSError:
            return False
    return True


def can_write(folder: str) -> bool:
    """Whether a file can be made in a folder."""
    try:
        Path(folder, "curricle-was-here").write_text("")
    except OSError:
        return False
    return True


def capabilities() -> int:
    """The capabilities that this process has or could gain."""
    found = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(("CapEff", "CapPrm", "CapBnd", "CapAmb")):
            found |= int(line.split()[1], 16)
    return found


def nests() -> bool:
    """Whether this process can make a user namespace."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(0x10000000) == 0 or ctypes.get_errno() == errno.EINVAL


def main() -> None:
    """Look around."""
    machine = json.loads(sys.argv[1])
    tcp, udp = tuple(machine["tcp"]), tuple(machine["udp"])
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    found = {
        "network": [
            name
            for name, is_open in (
                ("a TCP port of the machine answers", reaches(stream, socket.AF_INET, tcp)),
                ("a TCP connection leaves", reaches(stream, socket.AF_INET, _NOWHERE)),
                ("a UDP packet leaves", reaches(datagram, socket.AF_INET, _NOWHERE)),
                ("an abstract socket of the machine answers",
                 reaches(stream, socket.AF_UNIX, b"\0" + machine["abstract"].encode())),
            )
            if is_open
        ],
        "files": [f"{folder} can be written" for folder in machine["folders"] if can_write(folder)],
        "privileges": [],
    }  # fmt: skip
    reaches(datagram, socket.AF_INET, udp)  # it cannot know: the machine sees whether it arrived
    try:
        Path(machine["secret"]).read_text()
    except OSError:
        pass
    else:
        found["files"].append("a file of the machine can be read")
    if capabilities():
        found["privileges"].append("there are capabilities")
    if not machine["is_own_kernel"]:  # there, root and namespaces are of that kernel alone
        if os.geteuid() == 0:
            found["privileges"].append("it is root")
        if nests():
            found["privileges"].append("user namespaces can be nested")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
