"""The corpus that every user already has: the library of the Python that runs this.

Three kinds of documents: source files; the docstrings of what a file makes public, as one prose
document a file; the topics of `help()`. A source file and its docstrings are one group, so that the
held-out split cannot tear them apart.
"""

import ast
import inspect
import logging
import os
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from curricle.pipelines.corpus.documents import Document, in_seeded_order

logger = logging.getLogger(__name__)

SOURCE = "python_distribution"

_NEVER = {"site-packages", "dist-packages", "__pycache__"}
_TESTS = {"test", "tests", "idle_test"}
# Its text comes as one document a topic; as a source file it would repeat all of them.
_TOPICS = "pydoc_data/topics.py"

_Defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def library_root() -> Path:
    """Where this Python keeps its library."""
    return Path(sysconfig.get_path("stdlib"))


def library_files(include_tests: bool) -> list[str]:
    """The library's source files as relative POSIX paths, sorted."""
    root = library_root()
    unwanted = _NEVER if include_tests else _NEVER | _TESTS
    found = []
    for folder, subfolders, files in os.walk(root):
        # Pruned here: installed packages may be a hundred times the library.
        subfolders[:] = [name for name in subfolders if name not in unwanted]
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in files if name.endswith(".py")]
    return sorted(name for name in found if name != _TOPICS)


def python_groups(
    seed: int, include_tests: bool, skipped: Counter[str]
) -> Iterator[list[Document]]:
    """Yield the distribution's documents, a file's documents together, in seeded order.

    Args:
        seed: decides the order, so that a cap takes a sample rather than the letter A.
        include_tests: whether the library's tests are read too.
        skipped: counts files that Python itself cannot decode or parse.
    """
    topics = _topics()
    root = library_root()
    names = [*library_files(include_tests), *topics]
    for name in in_seeded_order(names, seed):
        if name in topics:
            yield [_document(name, "", "prose", topics[name])]
        else:
            yield _file_documents(root / name, name, skipped)


def _topics() -> dict[str, str]:
    from pydoc_data import topics

    return {f"pydoc_data/topics/{name}.rst": text for name, text in topics.topics.items()}


def _document(path: str, suffix: str, kind: str, text: str) -> Document:
    return {
        "id": f"{SOURCE}:{path}{suffix}",
        "text": text,
        "kind": kind,
        "path": path,
        "source": SOURCE,
    }


def _file_documents(file: Path, name: str, skipped: Counter[str]) -> list[Document]:
    try:
        with tokenize.open(file) as source:
            text = source.read()
    except (SyntaxError, UnicodeDecodeError):
        skipped["undecodable_files"] += 1
        return []
    if not text.strip():
        skipped["empty_files"] += 1
        return []
    documents = [_document(name, "", "code", text)]
    try:
        with warnings.catch_warnings():
            # Old library files hold invalid escapes on purpose; that is not the user's concern.
            warnings.simplefilter("ignore")
            prose = docstrings(text, name)
    except (SyntaxError, ValueError, RecursionError):
        skipped["unparsable_files"] += 1
        prose = ""
    if prose:
        documents.append(_document(name, "#docstrings", "prose", prose))
    return documents


def docstrings(text: str, name: str) -> str:
    """The docstrings of the public module, classes and functions in a source file, as prose.

    Args:
        text: the source.
        name: its relative path, from which the module's name is taken.

    Returns:
        One paragraph group a docstring, each under the qualified name of what it describes; empty
        when the module is private or says nothing.

    Raises:
        SyntaxError: `text` is no Python.
    """
    parts = [*PurePosixPath(name).parent.parts, PurePosixPath(name).stem]
    if parts[-1] == "__init__":
        parts.pop()
    if any(part.startswith("_") for part in parts):
        return ""
    found: list[str] = []
    _collect(ast.parse(text), ".".join(parts), found)
    return "\n\n".join(found) + "\n" if found else ""


def _collect(node: ast.Module | _Defined, name: str, found: list[str]) -> None:
    docstring = ast.get_docstring(node, clean=False)
    if docstring and docstring.strip():
        arguments = ""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = f"({ast.unparse(node.args)})"
        found.append(f"{name}{arguments}\n\n{inspect.cleandoc(docstring).strip()}")
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return  # what is inside a function is nobody's interface
    for child in node.body:
        if isinstance(child, _Defined) and not child.name.startswith("_"):
            _collect(child, f"{name}.{child.name}", found)
