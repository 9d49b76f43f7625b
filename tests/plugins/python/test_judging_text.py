import pytest
from curricle_python.freezing import changed_functions, freeze
from curricle_python.scanning import scan

PRISTINE = """
import os

LIMIT = 3


class Codec:
    def encode(self, text, strict=True):
        return text * LIMIT

    def decode(self, text):
        return text[:LIMIT]


def join(parts, separator=" "):
    return separator.join(parts)
"""


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        ("import sys\nsys.modules.clear()", "looks at how it is run: modules"),
        ("from os import _exit as leave", "ends or forks the process: _exit"),
        ("import importlib.util as u", "imports the interpreter's inside: importlib.util"),
        ("getattr(os, '_ex' + 'it')", "computes the name of an attribute: getattr"),
        ("get = getattr", "hands getattr on"),
        ("os.path.join = None", "changes what it imported: os.join"),
        ("class E(int):\n    __eq__ = None", "defines __eq__"),
        ("class E(int):\n    pass", "derives from int"),
        ("try:\n    pass\nexcept:\n    pass", "catches everything"),
        ("x = 'PYTEST'.lower() + 'conftest'", "names the harness in a text: 'conftest'"),
        ("type('E', (), {})", "makes a class by calling type"),
    ],
)
def test_the_scan_names_what_a_patch_adds(added, sentence):
    assert sentence in scan(PRISTINE, PRISTINE + added + "\n")


def test_what_was_there_before_is_not_held_against_a_patch():
    before = PRISTINE + "import sys\nprint(sys.argv)\n"
    assert scan(before, before.replace("LIMIT = 3", "LIMIT = 4")) == []
    assert scan(before, before + "print(sys.argv)\n") == ["looks at how it is run: argv"]


@pytest.mark.parametrize(
    "added",
    [
        "import re\nfrom itertools import groupby\n",
        "def helper(parts):\n    return [part for part in parts if isinstance(part, str)]\n",
        "try:\n    LIMIT + 1\nexcept TypeError as error:\n    raise ValueError('no') from error\n",
        "x = getattr(LIMIT, 'real', None)\n",
    ],
)
def test_ordinary_code_passes_the_scan(added):
    assert scan(PRISTINE, PRISTINE + added) == []


def test_text_that_is_no_python_is_named():
    assert scan(PRISTINE, "def (:") == ["the text is not Python"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("def decode(self, text)", "def decode(self, text, *more)", "Codec.decode has another"),
        ("strict=True", "strict=False", "Codec.encode has another"),
        ("def join", "def joined", "join is gone"),
        ("LIMIT = 3", "", "LIMIT is gone"),
        ("class Codec:", "class Codec(dict):", "Codec has another"),
        ("def join", "@staticmethod\ndef join", "join has another"),
    ],
)
def test_names_and_signatures_are_frozen(old, new, sentence):
    (found,) = freeze(PRISTINE, PRISTINE.replace(old, new))
    assert found.startswith(sentence)


def test_a_new_helper_breaks_nothing_that_is_frozen():
    assert freeze(PRISTINE, PRISTINE + "def helper():\n    pass\n") == []


def test_changed_bodies_are_named_and_anything_else_is_everything():
    body = PRISTINE.replace("text * LIMIT", "LIMIT * text")
    assert changed_functions(PRISTINE, body) == ["Codec.encode"]
    assert changed_functions(PRISTINE, PRISTINE + "# a comment\n") == []
    for other in ("LIMIT = 4", "LIMIT = 3\nX = 1", "import re\nLIMIT = 3"):
        assert changed_functions(PRISTINE, PRISTINE.replace("LIMIT = 3", other)) is None
