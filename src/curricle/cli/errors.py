"""How a command ends: what the user can mend is one clear message, a defect keeps its traceback."""

from __future__ import annotations

import functools
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from curricle.errors import CurricleError, Interrupted

FAILED = 1
_BY_SIGNAL = 128  # the shell's convention: 128 + the number of the signal
_CONTINUES = "Stopped. What was finished is stored; the same command continues from there."

# Kedro raises these as a bare ValueError; only their text tells them from a defect.
_KEDRO_USER_ERRORS = (
    "Failed to find the pipeline named",
    "Pipeline does not contain",
    "Pipeline contains no nodes",
    "Duplicate keys found in",
)


@dataclass(frozen=True)
class Ending:
    """What is shown, and the exit status."""

    message: str
    status: int


def clear_ending(error: BaseException) -> Ending | None:
    """Return how to end after ``error``; ``None`` when it is a defect.

    An error of ours counts wherever it stands in the chain: Kedro wraps what datasets raise.
    """
    if isinstance(error, KeyboardInterrupt):
        return Ending(_CONTINUES, _BY_SIGNAL + signal.SIGINT)
    for link in _chain(error):
        if isinstance(link, Interrupted):
            return Ending(str(link), _BY_SIGNAL + signal.Signals[link.signal_name].value)
        if isinstance(link, CurricleError):
            return Ending(str(link), FAILED)
    for link in _chain(error):
        if message := _kedro_user_error(link):
            return Ending(message, FAILED)
    return None


def ends_clearly(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command's callback so that it ends by :func:`clear_ending`."""

    @functools.wraps(callback)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            ending = clear_ending(error)
            if ending is None:
                raise
            message = with_environment(ending.message, kwargs.get("env"))
            click.secho(message, fg="red" if ending.status == FAILED else None, err=True)
            sys.exit(ending.status)

    return wrapped


def with_environment(message: str, env: str | None) -> str:
    """Return the message with the commands that it names run in the same environment."""
    return re.sub(r"\bkedro run(?= )", f"kedro run --env {env}", message) if env else message


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        yield link
        seen.add(id(link))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _kedro_user_error(error: BaseException) -> str:
    """Return the message of an error that Kedro raises about what the user wrote, or nothing."""
    from kedro.config import MissingConfigException
    from kedro.io import DatasetNotFoundError
    from kedro.validation.exceptions import ParameterValidationError

    if isinstance(error, MissingConfigException):
        return _missing_folder(str(error))
    if isinstance(error, (ParameterValidationError, DatasetNotFoundError)):
        return str(error)
    if isinstance(error, ValueError) and str(error).startswith(_KEDRO_USER_ERRORS):
        return str(error).strip()
    return ""


def _missing_folder(message: str) -> str:
    """Say which folder of ``conf`` is missing, and what to do about it."""
    found = re.search(r"directory: (.+)$", message, re.M)
    if found is None:
        return message
    folder = Path(found.group(1).strip())
    if folder.name == "local":
        return (
            f"{folder} is missing: Kedro reads private configuration there. Make it, empty: "
            f"mkdir -p conf/local"
        )
    known = sorted(p.name for p in folder.parent.glob("*") if p.is_dir() and p.name != "base")
    return (
        f"There is no environment {folder.name!r}: {folder} is missing. "
        f"Environments here: {', '.join(known) or 'none'}."
    )
