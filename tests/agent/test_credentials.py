"""What the Authorization header says."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.credentials import authorization
from agent.http_fault import Fault
from agent.settings import BasicAuth, Secret


def header(basic: BasicAuth | None = None, token: str | None = None, file: Path | None = None) -> str | None:
    make = authorization(basic, None if token is None else Secret(token), None if file is None else str(file))
    return make() if make else None


def test_forms(tmp_path: Path):
    (tmp_path / "token").write_text(" abc \n")
    assert header() is None
    assert header(token="t") == "Bearer t"
    assert header(file=tmp_path / "token") == "Bearer abc"
    assert header(BasicAuth(username="u", password=Secret("p"))) == "Basic dTpw"
    assert header(BasicAuth(username="ü", password_file=str(tmp_path / "token"))) == "Basic w7w6YWJj"


def test_files_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "token").write_bytes(b"\xff s3cret")
    for name, why in (("token", "not UTF-8"), ("nothing", "No such file")):
        with pytest.raises(Fault, match=why) as caught:
            header(file=tmp_path / name)
        assert caught.value.kind == "credentials"
        assert "s3cret" not in str(caught.value)
