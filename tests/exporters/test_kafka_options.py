"""Options of the exporter "kafka": what is refused, and what librdkafka is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ebbtide import Fault
from exporters.kafka_options import CONTROLLED, KafkaSettings, checked_properties, properties_of

SECRET = "hunter2-and-more"


def told(**options: Any) -> dict[str, str]:
    return properties_of(KafkaSettings.model_validate(options), 1000)


def test_what_librdkafka_is_told_by_default() -> None:
    assert told() == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "plaintext",
        "client.id": "ebbtide",
        "acks": "all",
        "enable.idempotence": "true",
        "max.in.flight.requests.per.connection": "5",
        "message.send.max.retries": "2147483647",
        "message.timeout.ms": "0",
        "partitioner": "murmur2_random",
        "compression.type": KafkaSettings().compression,
        "message.max.bytes": "1000000",
        "batch.size": "1000",
        "topic.metadata.propagation.max.ms": "10000",
        "enable.metrics.push": "false",
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"brokers": ["a:1", "[::1]:2", "c"]}, {"bootstrap.servers": "a:1,[::1]:2,c"}),
        (
            {"acks": "1"},
            {"acks": "1", "enable.idempotence": "false", "max.in.flight.requests.per.connection": "1"},
        ),
        ({"compression": "none", "max_message": "64KiB"}, {"compression.type": "none", "message.max.bytes": "65536"}),
        (
            {"tls": {}},
            {
                "security.protocol": "ssl",
                "enable.ssl.certificate.verification": "true",
                "ssl.endpoint.identification.algorithm": "https",
            },
        ),
        (
            {"tls": {"ca_file": "/ca", "cert_file": "/pair", "insecure_skip_verify": True}},
            {
                "ssl.ca.location": "/ca",
                "ssl.certificate.location": "/pair",
                "ssl.key.location": "/pair",
                "enable.ssl.certificate.verification": "false",
                "ssl.endpoint.identification.algorithm": "none",
            },
        ),
        ({"tls": {"cert_file": "/c", "key_file": "/k"}}, {"ssl.key.location": "/k"}),
        (
            {"sasl": {"mechanism": "SCRAM-SHA-512", "username": "u", "password": SECRET}},
            {
                "security.protocol": "sasl_plaintext",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "u",
                "sasl.password": SECRET,
            },
        ),
        (
            {"tls": {}, "sasl": {"mechanism": "OAUTHBEARER", "username": "id", "password": "pw", "token_url": "https://t/x"}},
            {
                "security.protocol": "sasl_ssl",
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.client.id": "id",
                "sasl.oauthbearer.client.secret": "pw",
                "sasl.oauthbearer.token.endpoint.url": "https://t/x",
            },
        ),
        (
            {"properties": {"linger.ms": 20, "socket.keepalive.enable": True, "client.id": "mine", "sticky.x": 0.5}},
            {"linger.ms": "20", "socket.keepalive.enable": "true", "client.id": "mine", "sticky.x": "0.5"},
        ),
    ],
)  # fmt: skip
def test_options_in_librdkafkas_words(options: dict[str, Any], expected: dict[str, str]) -> None:
    properties = told(**options)
    assert {name: properties[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"brokers": []}, "at least 1 item"),
        *(({"brokers": [broker]}, "not an address") for broker in ("", "a:0", "a:65536", "a:b", "a b:1", "k://a:1", "a,b", "::1:2")),
        *(({"topic": topic}, "not a topic's name") for topic in ("", ".", "..", "a b", "a" * 250, "ü")),
        ({"key": []}, "at least 1 item"),
        ({"key": [""]}, "at least 1 character"),
        ({"acks": "0"}, "'all' or '1'"),
        ({"acks": 1}, "'all' or '1'"),
        ({"encoding": "json"}, "otlp_proto"),
        ({"max_message": "999B"}, "must be from 1000B"),
        ({"max_message": "1GiB"}, "to 1000000000B"),
        ({"tls": {"server_name": "x"}}, "not supported by librdkafka"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u"}}, "needs a password or a password_file"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u", "password": "p", "password_file": "f"}}, "both set"),
        ({"sasl": {"mechanism": "PLAIN", "username": "u", "password": "p", "token_url": "https://x"}}, "OAUTHBEARER only"),
        ({"sasl": {"mechanism": "OAUTHBEARER", "username": "u", "password": "p"}}, "needs a token_url"),
        ({"sasl": {"mechanism": "OAUTHBEARER", "username": "u", "password": "p", "token_url": "file:///x"}}, "needs a token_url"),
        ({"sasl": {"mechanism": "GSSAPI", "username": "u", "password": "p"}}, "SCRAM-SHA-512"),
        ({"properties": {"linger.ms": [5]}}, "string"),
        *(({"properties": {name: "x"}}, f"{name} cannot be set here") for name in (*CONTROLLED, "dr_msg_cb", "oauth_cb")),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("(", r"\(")):
        KafkaSettings.model_validate(options)


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET + "\n")
    sasl = {"mechanism": "PLAIN", "username": "u", "password_file": str(file)}
    assert told(sasl=sasl)["sasl.password"] == SECRET
    file.unlink()
    with pytest.raises(Fault, match="cannot read `password_file`"):
        told(sasl=sasl)


def test_a_value_that_librdkafka_would_cut_short_is_refused() -> None:
    with pytest.raises(Fault, match=r"cannot use sasl\.password: it holds a NUL") as caught:
        told(sasl={"mechanism": "PLAIN", "username": "u", "password": f"a\0{SECRET}"})
    assert SECRET not in str(caught.value)


def test_nobody_is_asked_anything_when_options_are_checked() -> None:
    sasl = {"mechanism": "OAUTHBEARER", "username": "id", "password": "pw", "token_url": "https://t/x"}
    properties = checked_properties(KafkaSettings.model_validate({"sasl": sasl}))
    assert not {"bootstrap.servers", "sasl.oauthbearer.method"} & set(properties)


def test_properties_are_shown_nowhere() -> None:
    settings = KafkaSettings.model_validate({"properties": {"ssl.key.password": SECRET}})
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()
