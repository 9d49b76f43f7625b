"""What a language needs on the machine, declared; `curricle.execution.toolchain` looks for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """One program that a backend runs.

    Attributes:
        name: The program's name, or `python -m` module, as people know it: `pytest`.
        version_argv: Prints its version, such as `("cargo", "--version")`; `{python}` stands for
            the interpreter that runs curricle.
        wanted: Lowest version that works, such as `"8.4"`; empty accepts any.
        install: The exact command that installs it.
        optional: What is not measured without it; empty when the language cannot do without.
    """

    name: str
    version_argv: tuple[str, ...]
    wanted: str
    install: str
    optional: str = ""
