"""Runs a job in this process or in a child, and stores what it made.

In process, torch is imported once for a whole curriculum: right for one CPU. A child frees a GPU's
memory after each job and cannot take Kedro down with it. A child ends when its parent is gone
(``PR_SET_PDEATHSIG``), and a signal to the parent reaches the child's whole process group first.
It holds a lock to its very end: a parent that was killed loses the store's lock at once, while its
child is still saving, and the next run must not start a second writer beside it.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import importlib.metadata
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from curricle.checkpoints.store import Built, Store, Stored
from curricle.config.base import RunSettings
from curricle.errors import CurricleError, Interrupted, JobFailed
from curricle.launch.job import JOB_KINDS, Job, JobResult
from curricle.launch.precision import effective_precision
from curricle.launch.signals import stop_on_signal

logger = logging.getLogger(__name__)

USER_ERROR_EXIT = 3
"""Exit status of the engine when ``error.json`` holds a failure that the user can mend."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GRACE_S = 60.0


def obtain_by_job(
    run: RunSettings,
    step: str,
    kind: str,
    inputs: dict[str, Stored],
    parameters: dict[str, Any],
    *,
    outside_fingerprint: frozenset[str] = frozenset(),
) -> Stored:
    """Return the stored result of a job; run the job when there is none.

    Args:
        run: where the store is and how jobs are launched.
        step: the store step.
        kind: a key of ``JOB_KINDS``.
        inputs: name to stored input; their digests are part of the fingerprint.
        parameters: JSON-able parameters of the job.
        outside_fingerprint: parameters that change how it is computed but not what comes out,
            such as the micro-batch.
    """
    precision = effective_precision(run, parameters.get("precision", "fp32"), parameters)
    identity = {
        "job": kind,
        "revision": JOB_KINDS[kind].revision,
        "parameters": {
            k: v for k, v in parameters.items() if k not in {*outside_fingerprint, "precision"}
        },
        "precision": precision,
        "inputs": {name: stored.digest for name, stored in sorted(inputs.items())},
    }

    def build(result: Path, resume: Path) -> Built:
        job = Job(
            kind=kind,
            step=step,
            inputs={name: stored.path for name, stored in inputs.items()},
            parameters=parameters,
            precision=precision,
            output=result,
            resume=resume,
            checkpoint_every_s=run.checkpoint_every_s,
            keep_checkpoints=run.keep_checkpoints,
            threads=run.threads,
            tracking=run.tracking,
            tracking_folder=run.store.parent / "tracking",
        )
        started = time.monotonic()
        done = run_job(job, run)
        seconds = round(time.monotonic() - started, 3)
        return Built(done.effective, library_versions(kind), {"seconds": seconds, **done.measured})

    return Store(run.store).obtain(step, identity, build)


def run_job(job: Job, run: RunSettings) -> JobResult:
    """Run a job where the settings say, and return what it reports.

    Raises:
        Interrupted: a signal arrived; the job saved and stopped.
        JobFailed: the child ended without a result.
    """
    if run.launch == "child" or (run.launch == "auto" and _has_gpu()):
        return _run_in_child(job)
    engine = importlib.import_module("curricle.engine.entry")
    result: JobResult = engine.execute(job)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result.model_copy(update={"measured": {**result.measured, "peak_memory_mb": peak_mb}})


def library_versions(kind: str) -> dict[str, str]:
    """Return the versions of the libraries that a kind of job rests on."""
    return {name: importlib.metadata.version(name) for name in JOB_KINDS[kind].libraries}


def _has_gpu() -> bool:
    return Path("/dev/nvidia0").exists()


def _run_in_child(job: Job) -> JobResult:
    folder = job.resume.parent
    description, log = folder / "job.json", folder / "job.log"
    outcome = {name: folder / f"{name}.json" for name in ("outcome", "error")}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RANK", "MASTER_"))}
    with log.open("ab") as stream, (folder / "job.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the child of a killed run has saved and ended
        for path in outcome.values():
            path.unlink(missing_ok=True)
        description.write_text(job.model_dump_json(indent=2))
        with stop_on_signal() as stop:
            child = subprocess.Popen(
                [sys.executable, "-m", "curricle.engine", str(description)],
                stdin=subprocess.DEVNULL,
                stderr=stream,
                env=environment,
                pass_fds=[lock.fileno()],
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (nothing else ties the two)
            )
            status = _wait(child, stop)
    if stop:
        raise Interrupted(
            f"{job.step}: stopped by {stop.signal_name}; run the same command again",
            stop.signal_name,
        )
    if status == 0:
        return JobResult.model_validate_json(outcome["outcome"].read_text())
    if status == USER_ERROR_EXIT:
        raise CurricleError(json.loads(outcome["error"].read_text())["message"])
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise JobFailed(f"{job.step}: its process ended with status {status}. Log: {log}\n{tail}")


def _wait(child: subprocess.Popen[bytes], stop: Any) -> int:
    """Wait for a child; pass a signal on to its group once, and end what does not stop."""
    forwarded_at: float | None = None
    while True:
        try:
            return child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            pass
        if stop and forwarded_at is None:
            os.killpg(child.pid, signal.SIGTERM)
            forwarded_at = time.monotonic()
        if forwarded_at is not None and time.monotonic() - forwarded_at > _GRACE_S:
            os.killpg(child.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    ctypes.CDLL("libc.so.6", use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
