"""A project as an agent sees it: the pristine tree, the bug, and the agent's own edits.

A workspace is a value. An edit gives another workspace, so every state of a session can be kept,
compared and executed again; commands see it as changes over a disposable view of the tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from curricle.agents.refusal import Refused
from curricle.errors import DataError, InfrastructureFault
from curricle.languages.project import Changes, Prepared, Project, is_relative_inside
from curricle.languages.tasks import Patch


@dataclass(frozen=True)
class Workspace:
    """One state of an agent's work.

    Attributes:
        prepared: The project; its tree never changes.
        start: What was laid over the tree before the agent came: the bug.
        edits: The agent's own, file to text.
    """

    prepared: Prepared
    start: Changes = field(default_factory=dict)
    edits: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def project(self) -> Project:
        """The project."""
        return self.prepared.project

    @property
    def changes(self) -> Changes:
        """All that differs from the pristine tree, for an execution."""
        return {**self.start, **self.edits}

    @property
    def patch(self) -> Patch:
        """What the agent changed, against the tree that it found."""
        return Patch(
            {file: text for file, text in sorted(self.edits.items()) if text != self.found(file)}
        )

    def sources(self) -> tuple[str, ...]:
        """The files that may be read and changed.

        Raises:
            InfrastructureFault: The project has vanished from the machine.
        """
        self.require_project()
        gone = {file for file, text in self.start.items() if text is None}
        return tuple(f for f in self.project.files(self.project.sources) if f not in gone)

    def found(self, file: str) -> str:
        """A file's text before the agent changed anything."""
        text = self.start.get(file)
        return self.project.read(file) if text is None else text

    def read(self, file: str) -> str:
        """A source file's text as it is now.

        Raises:
            Refused: The path is none that an agent may read; the reason names what is near.
            InfrastructureFault: The project has vanished from the machine.
        """
        if not is_relative_inside(file):
            raise Refused(f"{file!r} is not a path inside the project.")
        sources = self.sources()
        if file not in sources:
            raise Refused(f"there is no source file {file}. {_nearest(file, sources)}")
        if file in self.edits:
            return self.edits[file]
        try:
            return self.found(file)
        except DataError as error:
            raise Refused(str(error)) from error

    def write(self, file: str, text: str) -> Workspace:
        """The workspace with another text in a source file.

        Raises:
            Refused: The file is none that an agent may change.
            InfrastructureFault: The project has vanished from the machine.
        """
        self.read(file)
        return replace(self, edits=MappingProxyType({**self.edits, file: text}))

    def resolve(self, path: str) -> str:
        """The source file that a path means: itself, or the only one that ends with it.

        Raises:
            Refused: There is none, or several.
            InfrastructureFault: The project has vanished from the machine.
        """
        sources = self.sources()
        if path in sources:
            return path
        ending = [file for file in sources if file.endswith(f"/{path.removeprefix('./')}")]
        if len(ending) == 1:
            return ending[0]
        if ending:
            raise Refused(f"{path} is ambiguous: {', '.join(ending[:5])}.")
        raise Refused(f"there is no source file {path}. {_nearest(path, sources)}")

    def require_project(self) -> None:
        """Make sure that the tree is still there.

        Raises:
            InfrastructureFault: It is not, which is no fault of an agent.
        """
        if not self.project.root.is_dir():
            raise InfrastructureFault(
                f"project {self.project.name} vanished: {self.project.root} is no folder any more."
            )


def _nearest(path: str, files: tuple[str, ...], shown: int = 8) -> str:
    name = path.rsplit("/", 1)[-1]
    alike = [file for file in files if file.endswith(f"/{name}") or file == name] or list(files)
    more = f" and {len(alike) - shown} more" if len(alike) > shown else ""
    return f"Source files: {', '.join(alike[:shown])}{more}."
