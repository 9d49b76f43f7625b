"""mutmut as a generator of mutants: it proposes, and what it would say of them is never asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from curricle.languages import (
    Command,
    DataError,
    Mutant,
    MutationTool,
    Output,
    Project,
    ProjectMutant,
)
from curricle.languages.python_operators import PYTHON_OPERATORS
from curricle.languages.scopes import function_at, functions
from curricle_python.running import ENVIRONMENT, FLAGS
from curricle_python.toolchain import INSIDE, PYTHON, SITE, packages_of

PINNED = "3.8"
"""mutmut's interface for this is its own affair: another version may have another."""
LEFT_OUT = ("string", "dict_arguments")
"""Operators that write `XX` into texts and names or change their case: a give-away."""
_REPORT = "mutmut.jsonl"


@dataclass(frozen=True)
class Mutmut(MutationTool):
    """Its mutations of a project's functions, as spans in the pristine text."""

    name: str = "mutmut"
    left_out: tuple[str, ...] = LEFT_OUT

    def binds(self) -> Sequence[str]:
        """Its packages, which no other run sees."""
        return packages_of("mutmut")

    def command(self, project: Project, max_mutants: int) -> Command:
        """List the mutations of every source file."""
        request = {"site": [SITE], "files": project.files(project.sources),
                   "left_out": self.left_out}  # fmt: skip
        return Command(
            argv=(PYTHON, *FLAGS, f"{INSIDE}/run_mutmut.py"),
            env=ENVIRONMENT,
            stdin=json.dumps(request),
            reports=(_REPORT,),
        )

    def parse(self, project: Project, output: Output) -> Sequence[ProjectMutant]:
        """Its report, as mutants of named functions; those at module level are left out.

        Raises:
            DataError: mutmut failed, or is another version than the pinned one.
        """
        lines = output.reports.get(_REPORT, "").splitlines()
        records = [json.loads(line) for line in lines]
        if output.exit_code or not records or records[-1].get("event") != "end":
            raise DataError(f"mutmut failed: {output.stderr.strip()[-400:]}")
        version = str(records[-1]["version"])
        if not version.startswith(f"{PINNED}."):
            raise DataError(
                f"mutmut {version} is installed, {PINNED} is supported: "
                f'pip install "mutmut=={PINNED}.*"'
            )
        sources = {file: project.read(file) for file in project.files(project.sources)}
        named = {file: functions(text, PYTHON_OPERATORS) for file, text in sources.items()}
        found = []
        for record in records[:-1]:
            file, start, end = record["file"], record["start"], record["end"]
            function = function_at(named[file], start, end)
            if function is None:
                continue
            line = sources[file].encode().count(b"\n", 0, start) + 1
            mutant = Mutant(
                record["operator"], start, end, record["original"], record["replacement"], line
            )
            found.append(
                ProjectMutant(
                    project.name, project.language, file, function.name, mutant, "mutmut", version
                )
            )
        return found
