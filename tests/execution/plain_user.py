"""Runs a command as a user who is not root, wherever the interpreter and this checkout lie."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

PLAIN = 12345
REPOSITORY = Path(__file__).parents[2]


def as_plain_user(
    argv: list[str], home: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a command; as root, in mounts of its own where a plain user can reach what it needs."""
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": str(home / "cache"), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    if os.geteuid() == 0:
        needed = {Path(sys.base_prefix), Path(sys.prefix), REPOSITORY}
        roots = sorted({f"/{path.parts[1]}" for path in needed} - {"/usr"})
        home.chmod(0o755)
        os.chown(home, PLAIN, PLAIN)
        needed.add(home)
        script = ["set -e", "mount -t tmpfs aside /mnt"]
        for number, path in enumerate(sorted(needed)):
            place = shlex.quote(str(path))
            script += [f"mkdir /mnt/{number}", f"mount --rbind {place} /mnt/{number}"]
        roots = sorted({*roots, "/tmp"})
        script += [f"mount -t tmpfs -o mode=1777 fresh {root}" for root in roots]
        for number, path in enumerate(sorted(needed)):
            place = shlex.quote(str(path))
            script += [f"mkdir -p {place}", f"mount --rbind /mnt/{number} {place}"]
        script.append(
            f"exec setpriv --reuid={PLAIN} --regid={PLAIN} --clear-groups --inh-caps=-all "
            f"--bounding-set=-all {shlex.join(argv)}"
        )
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)]
    return subprocess.run(
        argv, env=environment, cwd="/", capture_output=True, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip
