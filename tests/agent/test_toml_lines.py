import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from agent.toml_lines import Lines
from agent.toml_text import key, written

SOURCE = '''# comment with [table] and "quote
a.b = 1
"x y" = """
foo = "no key"
"q" \\""""
after = 1
[t]
l = [ # ] comment
  "a#]",
  {k = 1, 'z z' = {y = [1,
 2]}},
]
[[r.s]]
p = 1979-05-27 07:32:00
[[r.s]]
p = """x""""
[r.s.u]
v = \'\'\'x
''\'\'\'
[r]
z = true  # [no.table]
[implied.deep]
[implied]
"\\u00e9".'q"' = +inf
'''

CASES = [
    (("a",), 2),
    (("a", "b"), 2),
    (("x y",), 3),
    (("after",), 6),
    (("t",), 7),
    (("t", "l"), 8),
    (("t", "l", 0), 9),
    (("t", "l", 1), 10),
    (("t", "l", 1, "k"), 10),
    (("t", "l", 1, "z z", "y", 1), 11),
    (("r", "s"), 13),
    (("r", "s", 0, "p"), 14),
    (("r", "s", 1), 15),
    (("r", "s", 1, "p"), 16),
    (("r", "s", 1, "u"), 17),
    (("r", "s", 1, "u", "v"), 18),
    (("r",), 20),
    (("r", "z"), 21),
    (("implied", "deep"), 22),
    (("implied",), 23),
    (("implied", "é", 'q"'), 24),
    (("r", "z", "not", "there"), 21),
    (("nowhere",), 1),
    ((), 1),
]


@pytest.mark.parametrize(("path", "line"), CASES)
def test_line_of_path(path: tuple[str | int, ...], line: int) -> None:
    tomli.loads(SOURCE)  # the table is only worth something for valid TOML
    assert Lines(SOURCE).of(path) == line


def test_windows_newlines_count_the_same() -> None:
    windows = SOURCE.replace("\n", "\r\n")
    assert [Lines(windows).of(path) for path, _ in CASES] == [line for _, line in CASES]


@pytest.mark.parametrize("source", ["", "\n\n", "# only a comment", "\ta = 1", "[ a . b ]", "a = {\n  b = 1, # c\n}"])
def test_odd_documents(source: str) -> None:
    if source.startswith("a = {"):
        assert Lines(source).of(("a", "b")) == 2
    else:
        assert Lines(source).of(("a",)) == 1


scalars = st.booleans() | st.integers(-(2**62), 2**62) | st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    scalars, lambda v: st.lists(v) | st.dictionaries(st.text("ab\"' .é", max_size=3), v), max_leaves=8
)


@given(st.dictionaries(st.text("abc .#\"'\\é", min_size=0, max_size=5), values))
def test_each_key_of_a_generated_file_is_found(document: dict[str, object]) -> None:
    source = "".join(f"\n# {name!a} = [\n{key(name)} = {written(value)}\n" for name, value in document.items())
    assert tomli.loads(source) == document
    lines = Lines(source)
    assert [lines.of((name,)) for name in document] == [3 * n + 3 for n in range(len(document))]
