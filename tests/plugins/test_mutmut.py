"""mutmut proposes, in the sandbox: spans of the pristine text, without give-aways."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from curricle_python.backend import PythonBackend
from curricle_python.mutmut_tool import Mutmut

from curricle.checkpoints.hashing import hash_tree
from curricle.config.execution import Limits
from curricle.errors import DataError
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.evaluate import prepare_project
from curricle.languages import Output, Prepared, Project, ProjectMutant
from curricle.languages.commands import Isolation
from curricle.languages.mutation import apply
from curricle.languages.python_operators import is_mutant

SOURCE = """\
LIMIT = 1 + 1


def joined(parts, separator):
    if not parts and separator == "-":
        return None
    return str.join(
        separator,
        sorted(parts, reverse=True),
    )


class Box:
    def grow(self, size):
        size += 1
        return dict(side=size)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Sequence[ProjectMutant]]:
    folder = tmp_path_factory.mktemp("mutmut")
    root = folder / "tree"
    root.mkdir()
    (root / "boxes.py").write_text(SOURCE)
    (root / "test_boxes.py").write_text(
        "import boxes\n\n\ndef test_it():\n    assert boxes.LIMIT\n"
    )
    project = Project("boxes", "python", root, hash_tree(root), ("boxes.py",), ("test_*.py",))
    backend, tool, limits = PythonBackend(), Mutmut(), Limits(wall_s=60)
    with BubblewrapSandbox() as sandbox:
        prepared = prepare_project(backend, project, folder / "prepared", sandbox, limits)
        binds = sorted({*backend.binds(), *tool.binds()})
        output = sandbox.run(tool.command(project, 100), prepared, {}, limits, binds=binds)
    return prepared, tool.parse(project, output)


def test_its_mutants_are_other_programs_of_named_functions(
    found: tuple[Prepared, Sequence[ProjectMutant]],
) -> None:
    _, mutants = found
    assert {mutant.function for mutant in mutants} == {"joined", "Box.grow"}
    for mutant in mutants:
        assert is_mutant(SOURCE, apply(SOURCE, mutant.mutant)), mutant
        assert mutant.engine == "mutmut"
        assert mutant.engine_version.startswith("3.8.")


def test_they_change_what_they_say_and_nothing_else(
    found: tuple[Prepared, Sequence[ProjectMutant]],
) -> None:
    _, mutants = found
    texts = [apply(SOURCE, mutant.mutant) for mutant in mutants]
    assert any("if parts and separator" in text for text in texts)
    assert any("        sorted(parts, reverse=False),\n    )\n" in text for text in texts)
    assert all(text.startswith("LIMIT = 1 + 1\n") for text in texts)


def test_they_hold_no_text_that_gives_them_away(
    found: tuple[Prepared, Sequence[ProjectMutant]],
) -> None:
    _, mutants = found
    assert mutants
    for mutant in mutants:
        assert "XX" not in mutant.mutant.replacement
        assert "mutmut" not in mutant.mutant.replacement
        assert not mutant.mutant.replacement.rstrip().endswith(", )")


@pytest.mark.parametrize(
    ("exit_code", "report", "why"),
    [
        (1, "", "mutmut failed: it broke"),
        (0, '{"event": "end", "version": "9.0.0"}\n', "mutmut 9.0.0 is installed, 3.8 is supp"),
    ],
)
def test_a_failure_or_another_version_is_said(
    exit_code: int, report: str, why: str, found: tuple[Prepared, Sequence[ProjectMutant]]
) -> None:
    prepared, _ = found
    output = Output(
        exit_code, "", "it broke", {"mutmut.jsonl": report}, frozenset(), 0.1, Isolation("x", "y")
    )
    with pytest.raises(DataError, match=why):
        Mutmut().parse(prepared.project, output)
