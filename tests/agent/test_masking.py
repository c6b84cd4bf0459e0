import pytest

from agent.masking import blot, masked, secret_names, secret_texts
from ebbtide import BasicAuth, Secret, Settings, option


class Inner(Settings):
    pin: Secret = option(..., "A secret.")


class Example(Settings):
    colour: Secret | None = option(None, "Secret by its type alone.")
    by_name: dict[str, Secret] = option({}, "A table of secrets.")
    several: list[Secret] = option([], "A list of secrets.")
    inner: list[Inner] = option([], "Tables with secrets.")
    auth: BasicAuth | None = option(None, "Nested.")
    url: str = option("", "Open.")


NAMES = secret_names(Example)


def test_names_by_type() -> None:
    assert secret_names(Example) == {"colour", "by_name", "several", "pin", "password"}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"colour": "x", "url": "u"}, {"colour": "***", "url": "u"}),
        ({"by_name": {"A": "x"}}, {"by_name": {"A": "***"}}),
        ({"several": ["x", "y"]}, {"several": "***"}),
        ({"inner": [{"pin": "x"}]}, {"inner": [{"pin": "***"}]}),
        ({"auth": {"username": "u", "password": "x"}}, {"auth": {"username": "u", "password": "***"}}),
        ({"auth": {"password_file": "/f"}}, {"auth": {"password_file": "/f"}}),
        ({"headers": {"Authorization": "x"}}, {"headers": {"Authorization": "***"}}),
        ({"properties": {"sasl.password": "x"}}, {"properties": {"sasl.password": "***"}}),
        ({"api_key": "x", "Token": 3}, {"api_key": "***", "Token": "***"}),
        ({"url": "http://user:x@host/p"}, {"url": "http://***@host/p"}),
        ({"brokers": ["amqp://x@host"]}, {"brokers": ["amqp://***@host"]}),
        ({"url": "http://host/a@b"}, {"url": "http://host/a@b"}),
        ({"n": 1, "b": True}, {"n": 1, "b": True}),
    ],
)
def test_masked(given: dict[str, object], shown: dict[str, object]) -> None:
    assert masked(given, NAMES) == shown


def test_texts_are_what_is_masked() -> None:
    given = {"colour": "aaaa", "by_name": {"A": "bbbb"}, "url": "http://u:cccc@h", "inner": [{"pin": "dddd"}], "n": 1}
    assert secret_texts(given, NAMES) == {"aaaa", "bbbb", "u:cccc", "dddd"}


def test_blot() -> None:
    assert blot("abcd and abcdef, not abc", {"abcd", "abcdef", "abc", ""}) == "*** and ***, not abc"
