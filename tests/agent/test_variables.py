from pathlib import Path

import pytest

from agent.variables import MAX_FILE, Substitution

ENV = {"NAME": "value", "EMPTY": "", "_x9": "under", "RECURSIVE": "${NAME}", "file": "a variable"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${NAME}", "value"),
        ("a ${NAME}${NAME} b", "a valuevalue b"),
        ("${_x9}", "under"),
        ("${UNSET:-default}", "default"),
        ("${UNSET:-}", ""),
        ("${UNSET:-http://h:1/}", "http://h:1/"),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${NAME:-default}", "value"),
        ("${RECURSIVE}", "${NAME}"),
        ("${UNSET:-${NAME}", "${NAME"),
        ("${file}", "a variable"),
        ("${file:secret}", "line 1\nline 2"),
        ("Bearer ${file:secret}!", "Bearer line 1\nline 2!"),
        *(
            (same, same)
            for same in ("$1", "$$", "${1}", "$NAME", "${}", "${NA ME}", "${NAME", "${NAME-x}", "${NAME:x}", "{NAME}")
        ),
        ("$${NAME}", "$value"),
    ],
)
def test_strings(text: str, result: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"line 1\nline 2\r\n\n")
    substitution = Substitution(ENV, tmp_path)
    assert substitution({"a": [text]}) == {"a": [result]}
    assert not substitution.problems


def test_keys_and_other_values_stay(tmp_path: Path) -> None:
    document = {"${NAME}": [1, True, 0.5, {"${NAME}": "${NAME}"}]}
    assert Substitution(ENV, tmp_path)(document) == {"${NAME}": [1, True, 0.5, {"${NAME}": "value"}]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${UNSET}", "the environment variable UNSET is not set; set it, or write ${UNSET:-default}"),
        ("${file:none}", "cannot read the file 'none' of ${file:}: No such file or directory; check"),
        ("${file:}", "cannot read the file '' of ${file:}: Is a directory; check"),
        ("${file:folder}", "cannot read the file 'folder' of ${file:}: Is a directory; check"),
        ("${file:latin}", "cannot read the file 'latin' of ${file:}: it is not UTF-8 text; check"),
        ("${file:huge}", f"cannot read the file 'huge' of ${{file:}}: it is larger than {MAX_FILE} bytes; check"),
        ("${file:a\0b}", "cannot read the file 'a\\x00b' of ${file:}: its name is not a path; check"),
    ],
)
def test_problems(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"\xe9")
    (tmp_path / "huge").write_bytes(b"x" * (MAX_FILE + 1))
    substitution = Substitution(ENV, tmp_path)
    assert substitution({"a": ["fine", text]}) == {"a": ["fine", ""]}
    assert list(substitution.problems) == [("a", 1)]
    assert substitution.problems["a", 1].startswith(problem)


def test_what_came_from_outside_is_known(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("from file\n")
    substitution = Substitution(ENV, tmp_path)
    substitution(["${NAME}", "${file:f}", "${UNSET:-default}", "plain"])
    assert substitution.secrets == {"value", "from file"}
