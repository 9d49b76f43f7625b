"""Functions of real source files, cut so that a small model can learn from them.

A function is what `ast` says it is, but its text is the file's own, comments included. Put
together again, signature and body must parse to the very function they came from, so nothing that
dedenting could damage (a string over several lines, a backslash) ever becomes an example.
"""

import ast
import copy
import hashlib
import inspect
import logging
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from curricle.pipelines.corpus.documents import read_documents

logger = logging.getLogger(__name__)

_Definition = ast.FunctionDef | ast.AsyncFunctionDef
_INDENT = "    "


@dataclass(frozen=True)
class Function:
    """One function or method of a source file.

    Attributes:
        id: `path:qualified_name:line`, unique in a corpus.
        path: The file, as its document names it.
        module: Dotted name of the module, from the path.
        qualified_name: With its classes: `Class.method`.
        signature: The line that opens it, dedented: `def name(parameters):`.
        bare_signature: The same without annotations and `async`.
        docstring: First paragraph on one line; empty when there is none.
        body: The dedented source of the body, without the docstring.
        body_hash: Hash of the body without comments and layout; equal for copies.
        is_method: It stands in a class.
        is_async: It is an `async def`.
        is_generator: It yields, itself and not in an inner function.
        raises: It holds a `raise` of its own.
        returns_value: It returns something, other than a literal None.
    """

    id: str
    path: str
    module: str
    qualified_name: str
    signature: str
    bare_signature: str
    docstring: str
    body: str
    body_hash: str
    is_method: bool
    is_async: bool
    is_generator: bool
    raises: bool
    returns_value: bool

    @property
    def source(self) -> str:
        """Signature and body: the function without decorators and docstring."""
        return f"{self.signature}\n{textwrap.indent(self.body, _INDENT)}"

    @property
    def name(self) -> str:
        """The last part of the qualified name."""
        return self.qualified_name.rpartition(".")[2]


@dataclass(frozen=True)
class _Limits:
    max_chars: int
    min_lines: int
    max_lines: int
    documented: bool


def functions(
    documents_file: Path,
    *,
    max_chars: int = 900,
    min_lines: int = 2,
    max_lines: int = 12,
    documented: bool = True,
) -> Iterator[Function]:
    """Yield the functions of a file of documents, copies of an earlier one left out.

    Args:
        documents_file: JSON lines of documents; those of kind "code" are read as Python.
        max_chars: Longest source of a function, signature and body, in characters.
        min_lines: Fewest lines of a body; blank lines and comments count.
        max_lines: Most lines of a body.
        documented: Leave out what has no docstring.

    Raises:
        DataError: The file is missing, or a row is no document.
    """
    limits = _Limits(max_chars, min_lines, max_lines, documented)
    seen: set[str] = set()
    for document in read_documents(documents_file):
        if document.get("kind") != "code":
            continue
        for function in _functions_of(
            document.get("path", document["id"]), document["text"], limits
        ):
            if function.body_hash not in seen:
                seen.add(function.body_hash)
                yield function


def without_copies(
    train: Iterable[Function], heldout: Iterable[Function]
) -> tuple[list[Function], int]:
    """Drop the training functions whose body is found held out.

    Returns:
        The functions that remain, and how many were dropped.
    """
    known = {function.body_hash for function in heldout}
    everything = list(train)
    kept = [function for function in everything if function.body_hash not in known]
    return kept, len(everything) - len(kept)


def _functions_of(path: str, text: str, limits: _Limits) -> Iterator[Function]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes that Python will refuse one day
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError) as error:
            logger.warning("%s is left out: %s", path, error)
            return
        # Not str.splitlines: it also breaks at form feeds, which Python does not count.
        lines = re.split(r"\r\n|\r|\n", text)
        for prefix, definition in _definitions(tree, ""):
            if limits.documented and ast.get_docstring(definition, clean=False) is None:
                continue
            function = _function(path, lines, prefix, definition, limits)
            if function is not None and len(function.source) <= limits.max_chars:
                yield function


def _definitions(scope: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    """The definitions of a module and of its classes; not those within functions."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, _Definition):
            yield prefix, node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.If, ast.Try)):
            yield from _definitions(node, prefix)


def _function(
    path: str, lines: list[str], prefix: str, definition: _Definition, limits: _Limits
) -> Function | None:
    """The function at a definition; None when it is too long or cannot be cut out unharmed."""
    docstring = ast.get_docstring(definition)
    opening = definition.body[0]
    statements = definition.body[1:] if docstring is not None else definition.body
    if not statements:
        return None
    before = (opening.end_lineno if docstring is not None else None) or statements[0].lineno - 1
    if statements[0].lineno <= max(before, definition.lineno):
        return None  # written on one line with its signature or docstring
    end = definition.end_lineno or before
    body = textwrap.dedent("\n".join(lines[before:end])).strip("\n")
    fits = limits.min_lines <= body.count("\n") + 1 <= limits.max_lines
    if not fits or len(body) > limits.max_chars:
        return None  # said here, because the checks below cost ten times as much
    bare = _signature(definition, annotations=False)
    if not _is_whole(bare, body, statements):
        return None
    own = list(_own_nodes(statements))
    return Function(
        id=f"{path}:{prefix}{definition.name}:{definition.lineno}",
        path=path,
        module=_module(path),
        qualified_name=prefix + definition.name,
        signature=_signature(definition, annotations=True),
        bare_signature=bare,
        docstring=_first_paragraph(docstring or ""),
        body=body,
        body_hash=_body_hash(statements),
        is_method=bool(prefix),
        is_async=isinstance(definition, ast.AsyncFunctionDef),
        is_generator=any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own),
        raises=any(isinstance(node, ast.Raise) for node in own),
        returns_value=any(_returns_value(node) for node in own),
    )


def _is_whole(signature: str, body: str, statements: list[ast.stmt]) -> bool:
    """Whether the cut-out text still parses to the statements it was cut from."""
    source = f"async {signature}\n{textwrap.indent(body, _INDENT)}"
    try:
        parsed = ast.parse(source).body[0]
    except SyntaxError:
        return False
    assert isinstance(parsed, ast.AsyncFunctionDef)
    return [ast.dump(node) for node in parsed.body] == [ast.dump(node) for node in statements]


def _signature(definition: _Definition, *, annotations: bool) -> str:
    """The opening line, written by `ast`: the file's own may span lines and hold comments."""
    if not annotations:
        return f"def {definition.name}({ast.unparse(_unannotated(definition.args))}):"
    opening = "async def" if isinstance(definition, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(definition.returns)}" if definition.returns else ""
    return f"{opening} {definition.name}({ast.unparse(definition.args)}){returns}:"


def _unannotated(arguments: ast.arguments) -> ast.arguments:
    bare = copy.deepcopy(arguments)
    for node in ast.walk(bare):
        if isinstance(node, ast.arg):
            node.annotation = None
    return bare


def _own_nodes(statements: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of statements, without those of functions and classes defined among them."""
    for node in statements:
        yield node
        if not isinstance(node, (_Definition, ast.Lambda, ast.ClassDef)):
            yield from _own_nodes(ast.iter_child_nodes(node))


def _returns_value(node: ast.AST) -> bool:
    if not isinstance(node, ast.Return) or node.value is None:
        return False
    return not (isinstance(node.value, ast.Constant) and node.value.value is None)


def _body_hash(statements: list[ast.stmt]) -> str:
    layout_free = ast.unparse(ast.Module(body=statements, type_ignores=[]))
    return hashlib.sha256(layout_free.encode("utf-8", "surrogatepass")).hexdigest()


def _first_paragraph(docstring: str) -> str:
    return " ".join(inspect.cleandoc(docstring).partition("\n\n")[0].split())


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
