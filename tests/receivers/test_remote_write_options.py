"""Options of remote_write, and who is let in by them."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ebbtide import Fault
from receivers.remote_write_options import Doorkeeper, RemoteWriteSettings


def options(**given: Any) -> RemoteWriteSettings:
    return RemoteWriteSettings.model_validate(given)


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    assert options().address == ("127.0.0.1", 9201)
    assert options(listen=":9300").address == ("127.0.0.1", 9300)
    assert options(listen="[::]:9300").address == ("::", 9300)


@pytest.mark.parametrize(
    "given",
    [
        {"listen": ""},
        {"listen": "9201"},
        {"path": "write"},
        {"path": "/write?x=1"},
        {"bearer_token": "a", "bearer_token_file": "b"},
        {"bearer_token": "a", "basic_auth": {"username": "u", "password": "p"}},
        {"tls": {"client_ca_file": "ca.pem"}},
        {"max_connections": 0},
        {"max_body": "0B"},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**given)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_anybody_is_let_in_where_nothing_is_asked_for() -> None:
    keeper = Doorkeeper(options())
    assert keeper.lets_in("")
    assert keeper.lets_in("Bearer x")


@pytest.mark.parametrize(
    ("authorization", "let_in"),
    [
        ("Bearer t0ken", True),
        ("bearer t0ken", True),
        ("Bearer t0ke", False),
        ("Bearer t0ken2", False),
        ("Basic t0ken", False),
        ("Bearer", False),
        ("Bearer é", False),
        ("", False),
    ],
)
def test_a_bearer_token(authorization: str, let_in: bool) -> None:
    assert Doorkeeper(options(bearer_token="t0ken")).lets_in(authorization) is let_in


def test_a_user_and_password() -> None:
    keeper = Doorkeeper(options(basic_auth={"username": "u", "password": "p:q"}))
    assert keeper.scheme == "Basic"
    assert keeper.lets_in(basic("u:p:q"))
    assert not keeper.lets_in(basic("u:p"))
    assert not keeper.lets_in(basic("v:p:q"))


def test_a_token_in_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    keeper = Doorkeeper(options(bearer_token_file=str(file)))
    for use in (keeper.check, partial(keeper.lets_in, "Bearer x")):
        with pytest.raises(Fault, match="cannot read `bearer_token_file`"):
            use()
    file.write_text("first\n")
    keeper.check()
    assert keeper.lets_in("Bearer first")
    file.write_text("second, longer\n")
    assert keeper.lets_in("Bearer second, longer")
    file.write_text("\n")
    assert not keeper.lets_in("Bearer ")
