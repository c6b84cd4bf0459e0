import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from agent.toml_text import dotted, key, written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", '"plain"'),
        ('{job="a"}', "'{job=\"a\"}'"),
        ("back\\slash", "'back\\slash'"),
        ('it\'s "both"', '"it\'s \\"both\\""'),
        ("line\nbreak\x1b[0m", '"line\\nbreak\\u001b[0m"'),
        (True, "true"),
        (3, "3"),
        (0.5, "0.5"),
        (["a", 1], '["a", 1]'),
        ({}, "{}"),
        ({"a b": {"c": "d"}}, '{ "a b" = { c = "d" } }'),
    ],
)
def test_written(value: object, text: str) -> None:
    assert written(value) == text


@pytest.mark.parametrize(
    ("path", "text"),
    [(("a", "b-c", 0, "d"), "a.b-c[0].d"), (("a.b", 'q"', ""), '"a.b"."q\\""."" '.strip()), ((), "")],
)
def test_dotted(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_read_back_and_harmless(text: str) -> None:
    line = f"{key(text)} = {written(text)}"
    assert tomli.loads(line) == {text: text}
    assert line.isprintable()
