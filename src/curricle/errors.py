"""What can go wrong in a way that the user can mend.

Every class here is shown as one line, without a traceback. So each message says what is wrong,
where (file, key or row), and the exact fix. Anything else that is raised is a defect of ours and
keeps its traceback.
"""


class CurricleError(Exception):
    """A failure that the user can mend; the message carries the fix."""


class ConfigError(CurricleError):
    """A parameter, gate or environment that cannot work; raised before anything long starts."""


class DataError(CurricleError):
    """An input file or row that cannot be used; names the file and the row."""


class SpecialTokenText(DataError):
    """A text that spells a token which only a template may write."""


class StoreError(CurricleError):
    """A stored result that is missing, edited or cannot be written."""


class StageBusy(StoreError):
    """Another run holds the lock of the same stage."""


class GateClosed(CurricleError):
    """A candidate failed its gate; one line per failed check."""


class GateStale(CurricleError):
    """A gate report that judged another candidate or another policy."""


class JobFailed(CurricleError):
    """Heavy work that ran in a child process ended without a result; names its log."""


class Interrupted(CurricleError):
    """A signal arrived; what was trained so far is saved and the same command continues.

    Attributes:
        signal_name: ``SIGTERM`` and so on.
    """

    def __init__(self, message: str, signal_name: str) -> None:
        super().__init__(message)
        self.signal_name = signal_name


class SandboxUnavailable(CurricleError):
    """This machine cannot isolate a run as asked; names the failed probe and what to change.

    Raised only for what will fail again tomorrow. A launch that failed once is an
    :class:`InfrastructureFault`.
    """


class ToolMissing(CurricleError):
    """A program that a language needs is absent or too old; names it and the install command."""


class ExecutionFailed(CurricleError):
    """Executions cannot go on: no worker starts, or a work function has a defect."""


class EndpointError(CurricleError):
    """A model server that cannot be used; names its address and what it answered."""


class InfrastructureFault(Exception):
    """A run failed for a reason that is not the candidate's: it is retried, then masked.

    Never a user's error and never a score: whoever computes rewards turns it into "not measured".
    """
