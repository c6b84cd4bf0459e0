import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agent.settings import (
    MAX_DURATION,
    MAX_SIZE,
    AgentSettings,
    BasicAuth,
    OptionError,
    OutboxSettings,
    PipelineSettings,
    PositiveDuration,
    PositiveSize,
    RetrySettings,
    Secret,
    Settings,
    Tls,
    clashes,
    option,
    parse_duration,
    parse_server_url,
    parse_size,
    show_duration,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("1.5h", 5400), ("1m30s", 90), ("1d", 86400), ("0s", 0), ("36500d", MAX_DURATION)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "s", "-1s", " 1s", "1 s", "1s ", "1S", "1e3s", "1..5s", "٣s", "1s\n", 30, None, ["1s"]]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration; write one such as"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "9" * 400 + "s"])
def test_durations_beyond_a_life(text: str) -> None:
    with pytest.raises(ValueError, match="too long; write at most 36500d"):
        parse_duration(text)


@given(st.integers(0, round(MAX_DURATION * 1000)))
def test_a_shown_duration_is_read_back(milliseconds: int) -> None:
    assert round(parse_duration(show_duration(milliseconds / 1000)) * 1000) == milliseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("1000000B", 10**6), ("500KB", 500_000), ("64MiB", 2**26), ("2 GiB", 2**31), ("3GB", 3 * 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "64", "MiB", "-1B", "1.5MiB", "1mb", "1iB", "1TiB", "1B\n", "9" * 5000 + "B", 64, None]
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="not a size; write one such as"):
        parse_size(text)


def test_a_size_beyond_an_int64() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_size("999999999999999999GiB")


@given(st.integers(0, MAX_SIZE - 1).filter(lambda size: size % 1024 == 0 or size < 10**18))
def test_a_shown_size_is_read_back(size: int) -> None:
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize(("kind", "zero", "one"), [(PositiveDuration, "0s", "1ms"), (PositiveSize, "0KiB", "1B")])
def test_more_than_zero(kind: object, zero: str, one: str) -> None:
    adapter: TypeAdapter[float] = TypeAdapter(kind)
    assert adapter.validate_python(one) > 0
    with pytest.raises(ValidationError, match="must be more than zero"):
        adapter.validate_python(zero)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ([], []),
        (["password"], []),
        (["password", "password_file"], ["password_file"]),
        (["bearer_token", "bearer_token_file", "other"], ["bearer_token_file"]),
        (["bearer_token", "basic_auth"], ["basic_auth"]),
        (["bearer_token", "bearer_token_file", "basic_auth"], ["bearer_token_file", "basic_auth"]),
    ],
)
def test_clashes(names: list[str], options: list[str]) -> None:
    assert [clash.option for clash in clashes(names)] == options


class Poll(Settings):
    bearer_token: Secret | None = option(None, "Token.")
    bearer_token_file: str | None = option(None, "File.")
    basic_auth: BasicAuth | None = option(None, "Basic.")


@pytest.mark.parametrize(
    ("model", "given", "text"),
    [
        (BasicAuth, {"username": "u"}, "needs a password or a password_file"),
        (BasicAuth, {"username": "u", "password": "p", "password_file": "f"}, "password and password_file are both set"),
        (Poll, {"bearer_token": "t", "bearer_token_file": "f"}, "bearer_token and bearer_token_file are both set"),
        (Poll, {"bearer_token": "t", "basic_auth": {"username": "u", "password": "p"}}, "bearer_token and basic_auth are both set"),
        (Tls, {"key_file": "k"}, "key_file is set without cert_file"),
        (RetrySettings, {"initial": "1m"}, "max is shorter than initial"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(model: type[Settings], given: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(given)
    (error,) = caught.value.errors()
    assert isinstance(error["ctx"]["error"], OptionError)
    assert text in str(error["ctx"]["error"])


def test_defaults_are_validated_and_as_the_contract_says() -> None:
    outbox = OutboxSettings()
    assert (outbox.queue.max_age, outbox.queue.on_full) == (86400, "drop_oldest")
    assert (outbox.batch.max_bytes, outbox.batch.linger) == (4 * 2**20, 0.2)
    assert (outbox.retry.initial, outbox.retry.max) == (1, 30)
    agent = AgentSettings()
    assert agent.model_dump() == {
        "state_dir": None, "admin": "127.0.0.1:9464", "log_level": "info", "log_format": "text", "shutdown_timeout": "10s",
    }  # fmt: skip
    assert agent.shutdown_timeout == 10


def test_settings_are_strict_closed_frozen_and_silent() -> None:
    for table in ({"log_level": "loud secret"}, {"admin": 9464}, {"port": "secret"}):
        with pytest.raises(ValidationError) as caught:
            AgentSettings.model_validate(table)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValidationError):
        AgentSettings().admin = "elsewhere"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        PipelineSettings.model_validate({"receivers": [], "exporters": ["a"]})


@pytest.mark.parametrize("admin", ["nonsense", "host:", "host:99999", "::1:9464", "[::1]"])
def test_an_admin_address_must_be_one(admin: str) -> None:
    with pytest.raises(ValidationError, match="not an address"):
        AgentSettings(admin=admin)


@pytest.mark.parametrize("admin", ["", ":9464", "0.0.0.0:0", "[::1]:9464"])
def test_admin_addresses(admin: str) -> None:
    assert AgentSettings(admin=admin).admin == admin


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://prometheus:9090/", "http://prometheus:9090"),
        ("https://p/prefix", "https://p/prefix"),
        ("kubernetes://viz/service/prometheus:9090", "kubernetes://viz/service/prometheus:9090"),
        ("kubernetes://viz/pods?selector=app=p:admin/prefix/", "kubernetes://viz/pods?selector=app=p:admin/prefix"),
    ],
)
def test_base_urls(url: str, base: str) -> None:
    assert parse_server_url(url) == base


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://secret", "not an HTTP URL"),
        ("http://h:secret", "no host, or no port that can be"),
        ("http://secret h", "no host, or no port that can be"),
        ("http://h?secret", "a base URL has no query"),
        ("kubernetes://secret", "not a URL of something in Kubernetes"),
        ("kubernetes://a/service/secret:70000", "no port has this number"),
        ("kubernetes://a/service/b:80?secret", "a base URL has no query and no fragment"),
        ("kubernetes://a/service/b:80/#secret", "a base URL has no query and no fragment"),
    ],
)
def test_no_base_urls(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        parse_server_url(url)
    assert "secret" not in str(caught.value)
