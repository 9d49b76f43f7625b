"""What a tool says when it does not do what it was asked."""

from __future__ import annotations


class Refused(Exception):
    """A tool call that cannot be carried out as it stands; the message is for the agent.

    Never a failure of ours and never the user's: a session prints it as the observation, and the
    agent goes on.

    Attributes:
        kind: What statistics count it as, such as `absent` or `ambiguous`.
    """

    def __init__(self, message: str, kind: str = "refused") -> None:
        super().__init__(message)
        self.kind = kind
