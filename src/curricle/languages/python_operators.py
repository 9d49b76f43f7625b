"""The mutation operators of Python, as a table for `curricle.languages.mutation`.

Mutants are meant to read like slips of a programmer: a deleted statement leaves no trace where
another statement remains, and nothing that runs is left out of reach (annotations and
documentation are not touched, as no test could tell).
"""

import ast
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache

import tree_sitter_python
from tree_sitter import Node

from curricle.languages.mutation import Edit, Operator, OperatorTable, Site

_COMPARISONS = {
    "==": ("!=",), "!=": ("==",), "<": ("<=", ">"), "<=": ("<", ">"), ">": (">=", "<"),
    ">=": (">", "<"), "is": ("is not",), "is not": ("is",), "in": ("not in",), "not in": ("in",),
}  # fmt: skip
_ARITHMETIC = {
    "+": ("-",), "-": ("+",), "*": ("//",), "/": ("*",), "//": ("*",), "%": ("//",),
    "+=": ("-=",), "-=": ("+=",), "*=": ("//=",), "/=": ("*=",), "//=": ("*=",), "%=": ("//=",),
}  # fmt: skip
_CONDITION = """[
  (if_statement condition: (_) @target) (elif_clause condition: (_) @target)
  (while_statement condition: (_) @target) (assert_statement . (_) @target)
  (if_clause (_) @target) (conditional_expression . (_) . (_) @target)
]"""
_STATEMENT = """(block [
  (expression_statement) (raise_statement) (assert_statement) (delete_statement)
] @target)"""
_BOUND = """[
  (slice (_) @target)
  (call function: (identifier) @function arguments: (argument_list (_) @target)
    (#eq? @function "range"))
]"""
_SIMPLE = frozenset({"identifier", "call", "attribute", "subscript"})
_TEXT = frozenset({"string", "concatenated_string"})
_UNSWAPPABLE = frozenset(
    {"keyword_argument", "list_splat", "dictionary_splat", "comment", "generator_expression"}
)
_FUNCTIONS = frozenset({"function_definition", "lambda"})


def _arithmetic(site: Site) -> Iterator[Edit]:
    if any(node.type in _TEXT for node in site.captures["operand"]):
        return  # joining or formatting text: another operator is a mere TypeError
    for text in _ARITHMETIC.get(site.text(site.node()), ()):
        yield site.replace(site.node(), text)


def _not_removed(site: Site) -> Iterator[Edit]:
    yield site.replace(site.node(), site.text(site.node("argument")))


def _not_inserted(site: Site) -> Iterator[Edit]:
    if site.node().type in _SIMPLE:
        yield site.replace(site.node(), f"not {site.text(site.node())}")


def _condition_negated(site: Site) -> Iterator[Edit]:
    condition = site.node()
    if condition.type == "boolean_operator":
        yield site.replace(condition, f"not ({site.text(condition)})")
    elif condition.type == "parenthesized_expression":
        yield site.replace(condition, f"not {site.text(condition)}")


def _integer_changed(site: Site) -> Iterator[Edit]:
    text = site.text(site.node())
    if not re.fullmatch(r"[0-9]+", text) or _has_ancestor(site.node(), "type"):
        return
    yield site.replace(site.node(), "0" if text == "1" else str(int(text) + 1))


def _return_dropped(site: Site) -> Iterator[Edit]:
    if site.node().type != "none":
        yield site.replace(site.node(), "None")


def _string_emptied(site: Site) -> Iterator[Edit]:
    string = site.node()
    if _parent(string).type == "expression_statement" or _has_ancestor(string, "type"):
        return
    if _parent(string).type == "concatenated_string" or _has_ancestor(string, "raise_statement"):
        return  # a part of a text, or a message that tests seldom read
    content = [child for child in string.children if child.type != "string_start"][:-1]
    if content:
        yield Edit(content[0].start_byte, content[-1].end_byte, "")


def _arguments_swapped(site: Site) -> Iterator[Edit]:
    first, second = site.node("first"), site.node("second")
    if {first.type, second.type} & _UNSWAPPABLE:
        return
    between = site.source[first.end_byte : second.start_byte].decode("utf-8")
    yield Edit(
        first.start_byte, second.end_byte, site.text(second) + between + site.text(first)
    )  # fmt: skip


def _off_by_one(site: Site) -> Iterator[Edit]:
    bound = site.node()
    if bound.type in _SIMPLE:
        yield site.replace(bound, f"{site.text(bound)} + 1")
        yield site.replace(bound, f"{site.text(bound)} - 1")


def _wrong_variable(site: Site) -> Iterator[Edit]:
    """Another parameter of the same function: the next one, so that each use has one mutant."""
    identifier = site.node()
    parent = _parent(identifier)
    if parent.type == "attribute" and parent.child_by_field_name("attribute") == identifier:
        return
    if parent.type == "keyword_argument" and parent.child_by_field_name("name") == identifier:
        return
    if parent.type == "assignment" and parent.child_by_field_name("left") == identifier:
        return
    if _has_ancestor(identifier, "type"):
        return
    function = _enclosing_function(identifier)
    if function is None:
        return
    names = _parameters(site, function)
    name = site.text(identifier)
    if name in names and len(names) > 1:
        yield site.replace(identifier, names[(names.index(name) + 1) % len(names)])


def _statement_deleted(site: Site) -> Iterator[Edit]:
    statement = site.node()
    if statement.named_child_count and statement.named_children[0].type in _TEXT:
        return  # documentation
    line_start = site.source.rfind(b"\n", 0, statement.start_byte) + 1
    line_end = site.source.find(b"\n", statement.end_byte)
    line_end = len(site.source) if line_end < 0 else line_end + 1
    around = (
        site.source[line_start : statement.start_byte] + site.source[statement.end_byte : line_end]
    )
    siblings = [node for node in _parent(statement).named_children if node.type != "comment"]
    alone = len(siblings) == 1 or (len(siblings) == 2 and _is_documentation(siblings[0]))  # noqa: PLR2004
    if around.strip() or alone:
        yield site.replace(statement, "pass")
    elif line_end == len(site.source) and not site.source.endswith(b"\n"):
        yield Edit(max(line_start - 1, 0), line_end, "")
    else:
        yield Edit(line_start, line_end, "")


def _is_documentation(statement: Node) -> bool:
    return bool(
        statement.type == "expression_statement"
        and statement.named_child_count == 1
        and statement.named_children[0].type in _TEXT
    )


def _parent(node: Node) -> Node:
    assert node.parent is not None, "operators capture no whole module"
    return node.parent


def _has_ancestor(node: Node | None, kind: str) -> bool:
    while node is not None:
        if node.type == kind:
            return True
        node = node.parent
    return False


def _enclosing_function(node: Node) -> Node | None:
    """The function whose body holds a node; None at module level and within parameter lists."""
    child, parent = node, node.parent
    while parent is not None:
        if parent.type in _FUNCTIONS:
            return parent if parent.child_by_field_name("body") == child else None
        child, parent = parent, parent.parent
    return None


def _parameters(site: Site, function: Node) -> list[str]:
    """The names of a function's own plain parameters: no `self`, no `*arguments`."""
    parameters = function.child_by_field_name("parameters")
    names = []
    for parameter in parameters.named_children if parameters is not None else ():
        name: Node | None
        if parameter.type == "identifier":
            name = parameter
        elif parameter.type == "typed_parameter":
            name = parameter.named_children[0]
        else:
            name = parameter.child_by_field_name("name")
        if name is not None and name.type == "identifier":
            names.append(site.text(name))
    return [name for name in names if name not in ("self", "cls")]


def is_mutant(original: str, mutated: str) -> bool:
    """Whether `mutated` compiles and is not the same program as `original`."""
    tree = _compiled(mutated)
    if tree is None:
        return False
    before = _original_tree(original)
    if before is None or len(before.body) != len(tree.body):
        return True
    lines = _lines(original), _lines(mutated)
    # Of most statements the text is the same, which is known sooner than that the trees are.
    return any(
        _text(lines[0], old) != _text(lines[1], new) and ast.dump(old) != ast.dump(new)
        for old, new in zip(before.body, tree.body, strict=True)
    )


@lru_cache(maxsize=4)
def _original_tree(source: str) -> ast.Module | None:
    return _compiled(source)


@lru_cache(maxsize=4)
def _lines(source: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", source)  # as Python counts them


def _text(lines: list[str], statement: ast.stmt) -> list[str]:
    """The lines of a statement, its decorators included."""
    decorators = getattr(statement, "decorator_list", ())
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return lines[first - 1 : statement.end_lineno]


def _compiled(source: str) -> ast.Module | None:
    """The source's syntax tree; None when Python refuses the source."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # comparing a constant by `is`, and the like
        try:
            tree = ast.parse(source)
            # Parsing alone would let a `break` outside a loop pass.
            compile(tree, "<mutant>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError):
            return None
    return tree


PYTHON_OPERATORS = OperatorTable(
    language="python",
    grammar=tree_sitter_python.language,
    is_mutant=is_mutant,
    scopes="""[
      (function_definition name: (identifier) @name) @function
      (class_definition name: (identifier) @name) @container
    ]""",
    documentation="(expression_statement . (string) .) @documentation",
    operators=(
        Operator("comparison_flipped", "(comparison_operator operators: _ @target)", _COMPARISONS),
        Operator(
            "boolean_swapped",
            "(boolean_operator operator: _ @target)",
            {"and": ("or",), "or": ("and",)},
        ),
        Operator("not_removed", "(not_operator argument: (_) @argument) @target", _not_removed),
        Operator("not_inserted", _CONDITION, _not_inserted),
        Operator("condition_negated", _CONDITION, _condition_negated),
        Operator(
            "arithmetic_changed",
            """[(binary_operator left: (_) @operand operator: _ @target right: (_) @operand)
            (augmented_assignment left: (_) @operand operator: _ @target right: (_) @operand)]""",
            _arithmetic,
        ),
        Operator("integer_changed", "(integer) @target", _integer_changed),
        Operator(
            "true_false_swapped",
            "[(true) (false)] @target",
            {"True": ("False",), "False": ("True",)},
        ),
        Operator("return_dropped", "(return_statement (_) @target)", _return_dropped),
        Operator(
            "loop_exit_changed",
            "[(break_statement) (continue_statement)] @target",
            {"break": ("continue",), "continue": ("break",)},
        ),
        Operator("string_emptied", "(string) @target", _string_emptied),
        Operator(
            "arguments_swapped",
            "(call arguments: (argument_list . (_) @first . (_) @second .) @target)",
            _arguments_swapped,
        ),
        Operator("off_by_one", _BOUND, _off_by_one),
        Operator("wrong_variable", "(identifier) @target", _wrong_variable),
        Operator("statement_deleted", _STATEMENT, _statement_deleted),
    ),
)
