import pytest
from textkit import initials, to_camel, to_snake


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("someName", "some_name"),
        ("HTTPServer", "http_server"),
        ("plain", "plain"),
        ("getURL", "get_url"),
        ("already_snake", "already_snake"),
        ("Mixed_Case", "mixed_case"),
        ("", ""),
    ],
)
def test_to_snake(name, snake):
    assert to_snake(name) == snake


@pytest.mark.parametrize(
    ("name", "camel"),
    [("some_name", "someName"), ("_private_name", "privateName"), ("one", "one"), ("___", "")],
)
def test_to_camel(name, camel):
    assert to_camel(name) == camel


def test_to_camel_with_an_upper_first_letter():
    assert to_camel("some_name", upper=True) == "SomeName"


def test_initials():
    assert initials("ada king lovelace") == "A.K.L."
    assert initials("Grace Hopper", separator="") == "GH"
    assert initials("") == ""
