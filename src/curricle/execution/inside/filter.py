"""A filter of system calls: what namespaces do not separate is refused.

Sockets exist for local, internet and routing families alone: the address family of virtual machines
(`AF_VSOCK`) reaches the hypervisor from any network namespace. Keyrings are inherited from whoever
started curricle. The rest are parts of the kernel that tests of a project do not need and that
have been ways out before.
"""

from __future__ import annotations

import errno
import os
import struct

_ALLOWED_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
_COMMON = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
_TABLES = {
    "x86_64": (
        0xC000003E,
        (41, 53),  # socket, socketpair
        {"add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298, "bpf": 321,
         "userfaultfd": 323, **_COMMON},
    ),
    "aarch64": (
        0xC00000B7,
        (198, 199),
        {"add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241, "bpf": 280,
         "userfaultfd": 282, **_COMMON},
    ),
}  # fmt: skip
"""Machine to the kernel's name for it, its calls that make sockets, and what is refused."""
_X32 = 0x40000000
"""Numbers from here on are a second table of the same machine."""

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000


def program() -> bytes | None:
    """The filter for this machine, as instructions; `None` for a machine that has no table."""
    table = _TABLES.get(os.uname().machine)
    if table is None:
        return None
    architecture, sockets, refused = table
    # Forward jumps count the instructions that they skip.
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    for number in sorted(refused.values()):
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    code += [
        (_EQUAL, 2, 0, sockets[0]),
        (_EQUAL, 1, 0, sockets[1]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
    ]
    for family in _ALLOWED_FAMILIES:
        code += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    code.append((_RETURN, 0, 0, _ERRNO | errno.EAFNOSUPPORT))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
