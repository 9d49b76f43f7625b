"""Executes one job; the same function serves a child process and a run in process."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable

import datasets
import torch
import transformers

from curricle.engine.hardware import release_freed_memory, setup_torch_backends
from curricle.launch.job import JOB_KINDS, Job, JobResult

logger = logging.getLogger(__name__)


def quiet_libraries() -> None:
    """Leave one progress bar per job: ours. In a log file there is none at all."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    # TRL still reads the old name of a property of models; nothing for the user to mend.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # rollout_func: our tests watch it
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # TRL reads it where it computes references


def execute(job: Job) -> JobResult:
    """Run a job's target on a machine that is set up for it."""
    torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
    setup_torch_backends()
    quiet_libraries()
    module, _, name = JOB_KINDS[job.kind].target.partition(":")
    target: Callable[[Job], JobResult] = getattr(importlib.import_module(module), name)
    # The modules that are loaded by now live for ever: a collection need not walk through them.
    # What the job before left behind does not, and goes first.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    release_freed_memory()
    return target(job)
