import ast
import json
from pathlib import Path

import pytest

from curricle.errors import DataError
from curricle.pipelines.sft.functions import Function, functions, without_copies

SOURCE = '''\
import os


class Shelf:
    class Inner:
        @property
        def first(self) -> int:  # a comment
            """First of them.

            And more that nobody asked for.
            """
            # why
            place = 0
            return self.items[place]

    async def fetch(
        self,
        place: int,  # where
        *more: str,
    ) -> None:
        """Fetch   the
        thing."""
        await place
        raise ValueError(place)


def walk(items):
    """Walk over them."""
    def inner():
        raise ValueError
    for item in items:
        yield inner


def undocumented(items):
    items = list(items)
    return None


def short(items):
    """Too short."""
    return items


def one_line(items): """On one line."""; return items


def long_text():
    """Holds a text over lines."""
    text = """
  kept as it is
    """
    return text
'''


def extract(tmp_path: Path, *sources: str, **limits: int | bool) -> list[Function]:
    path = tmp_path / "train.jsonl"
    rows = [
        {"id": str(n), "text": text, "kind": "code", "path": f"package/file{n}.py", "source": "s"}
        for n, text in enumerate(sources)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(functions(path, **limits))  # type: ignore[arg-type]


def test_documented_functions_and_methods_are_found_with_their_qualified_names(
    tmp_path: Path,
) -> None:
    found = extract(tmp_path, SOURCE)
    assert [f.qualified_name for f in found] == ["Shelf.Inner.first", "Shelf.fetch", "walk"]
    assert {f.module for f in found} == {"package.file0"}
    assert [f.is_method for f in found] == [True, True, False]


def test_the_text_is_the_files_own_without_docstring_and_decorators(tmp_path: Path) -> None:
    first = extract(tmp_path, SOURCE)[0]
    assert first.body == "# why\nplace = 0\nreturn self.items[place]"
    assert first.source == (
        "def first(self) -> int:\n    # why\n    place = 0\n    return self.items[place]"
    )


def test_a_signature_over_several_lines_becomes_one(tmp_path: Path) -> None:
    fetch = extract(tmp_path, SOURCE)[1]
    assert fetch.signature == "async def fetch(self, place: int, *more: str) -> None:"
    assert fetch.bare_signature == "def fetch(self, place, *more):"


def test_the_docstring_is_its_first_paragraph_on_one_line(tmp_path: Path) -> None:
    found = extract(tmp_path, SOURCE)
    assert [f.docstring for f in found[:2]] == ["First of them.", "Fetch the thing."]


def test_kinds_do_not_look_into_inner_functions(tmp_path: Path) -> None:
    first, fetch, walk = extract(tmp_path, SOURCE)
    assert first.returns_value and not (first.raises or first.is_generator or first.is_async)
    assert fetch.raises and fetch.is_async and not fetch.returns_value
    assert walk.is_generator and not walk.raises


def test_returning_none_is_not_returning_a_value(tmp_path: Path) -> None:
    found = {f.name: f for f in extract(tmp_path, SOURCE, documented=False)}
    assert not found["undocumented"].returns_value
    assert found["undocumented"].docstring == ""


def test_what_dedenting_would_damage_is_left_out(tmp_path: Path) -> None:
    assert "long_text" not in {f.name for f in extract(tmp_path, SOURCE)}


def test_limits_are_of_body_lines_and_of_characters(tmp_path: Path) -> None:
    names = [f.name for f in extract(tmp_path, SOURCE, min_lines=1, max_lines=1)]
    assert names == ["short"]
    assert extract(tmp_path, SOURCE, max_chars=30) == []


def test_a_copy_with_other_comments_and_layout_is_left_out(tmp_path: Path) -> None:
    copy = SOURCE.replace("# why\n", "# another reason\n").replace("class Shelf", "class Other")
    assert len(extract(tmp_path, SOURCE, copy)) == len(extract(tmp_path, SOURCE))


def test_training_copies_of_heldout_functions_are_dropped_and_counted(tmp_path: Path) -> None:
    found = extract(tmp_path, SOURCE)
    kept, dropped = without_copies(found, found[:1])
    assert (kept, dropped) == (found[1:], 1)


def test_a_file_that_does_not_parse_is_passed_over(tmp_path: Path) -> None:
    assert len(extract(tmp_path, "print 'old'\n", SOURCE)) == 3


def test_every_source_parses_to_the_function_it_came_from(tmp_path: Path) -> None:
    source = Path(ast.__file__).read_text()
    found = extract(tmp_path, source)
    assert len(found) > 15
    bodies = {
        ast.unparse(node.body[1:])  # type: ignore[arg-type]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }
    for function in found:
        (definition,) = ast.parse(function.source).body
        assert ast.unparse(definition.body) in bodies  # type: ignore[attr-defined]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        list(functions(tmp_path / "nowhere.jsonl"))
