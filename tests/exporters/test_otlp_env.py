"""OTEL_EXPORTER_OTLP_*: the specification's own cases, and what is wrong is ignored aloud."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporters.otlp_env import INDEFINITE, read_environment


def test_urls_of_the_specification(vectors: Path):
    cases = json.loads((vectors / "otel_spec" / "otlp_protocol.json").read_text())["exporter_urls"]
    assert len(cases) > 5
    for case in cases:
        assert read_environment(case["env"]).http_url() == case["metrics_url"], case


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://localhost:4317"),
        ({"ENDPOINT": "http://c:4317"}, "http://c:4317"),
        ({"ENDPOINT": "https://c"}, "https://c"),
        ({"ENDPOINT": "c:4317"}, "https://c:4317"),
        ({"ENDPOINT": "c:4317", "INSECURE": "TRUE"}, "http://c:4317"),
        ({"ENDPOINT": "https://c:1", "INSECURE": "true"}, "https://c:1"),
        (
            {"ENDPOINT": "c:1", "METRICS_ENDPOINT": "d:1", "INSECURE": "true", "METRICS_INSECURE": "false"},
            "https://d:1",
        ),
    ],
)
def test_grpc(environ: dict[str, str], url: str):
    assert read_environment(prefixed(environ)).grpc_url() == url


def prefixed(environ: dict[str, str]) -> dict[str, str]:
    return {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()}


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        (" A = 1 , b=x%20y%2Cz ", {"a": "1", "b": "x y,z"}),
        ("authorization=Basic%20abc=", {"authorization": "Basic abc="}),
        ("a=", {"a": ""}),
        ("a=1,,b=2,", {"a": "1", "b": "2"}),
    ],
)
def test_headers(text: str, headers: dict[str, str]):
    environment = read_environment({"OTEL_EXPORTER_OTLP_HEADERS": text})
    assert environment.headers == headers
    assert environment.warnings == ()


@pytest.mark.parametrize("text", ["s3cret", "a b=s3cret", "a=s3cret%0d%0ax: y", "=s3cret"])
def test_bad_headers_are_ignored_without_being_shown(text: str):
    environment = read_environment({"OTEL_EXPORTER_OTLP_METRICS_HEADERS": f"good=1,{text}"})
    assert environment.headers == {"good": "1"}
    assert len(environment.warnings) == 1
    assert "2. entry of OTEL_EXPORTER_OTLP_METRICS_HEADERS" in environment.warnings[0]
    assert "s3cret" not in environment.warnings[0] + repr(environment)


def test_everything_else():
    environment = read_environment(
        prefixed({
            "PROTOCOL": "grpc", "METRICS_PROTOCOL": "http/json", "COMPRESSION": "gzip", "TIMEOUT": "2500",
            "CERTIFICATE": "ca", "CLIENT_CERTIFICATE": "cert", "CLIENT_KEY": "key", "METRICS_COMPRESSION": "",
        })
    )  # fmt: skip
    assert (environment.protocol, environment.compression, environment.timeout) == ("http/json", "gzip", 2.5)
    assert (environment.certificate, environment.client_certificate, environment.client_key) == ("ca", "cert", "key")
    assert environment.warnings == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROTOCOL", "http"),
        ("COMPRESSION", "snappy"),
        ("TIMEOUT", "10s"),
        ("TIMEOUT", "1.5"),
        ("TIMEOUT", "-1"),
        ("TIMEOUT", "٣"),
        ("INSECURE", "yes"),
        ("CLIENT_KEY", "key.pem"),
        ("METRICS_CLIENT_KEY", "key.pem"),
    ],
)
def test_what_is_not_understood_is_ignored_aloud(name: str, value: str):
    environment = read_environment(prefixed({name: value}))
    assert (environment.protocol, environment.compression, environment.timeout) == (None, None, None)
    assert (environment.insecure, environment.client_key) == (False, None)
    assert len(environment.warnings) == 1
    assert environment.warnings[0].startswith(f"cannot use OTEL_EXPORTER_OTLP_{name} from the environment: ")
    assert value not in environment.warnings[0].partition("environment: ")[2].replace('"http/', "")


def test_a_timeout_of_zero_is_none():
    assert read_environment(prefixed({"TIMEOUT": "0"})).timeout == INDEFINITE


def test_words_are_taken_in_any_case():
    environment = read_environment(prefixed({"PROTOCOL": "GRPC", "COMPRESSION": "Gzip", "INSECURE": "False"}))
    assert (environment.protocol, environment.compression, environment.insecure) == ("grpc", "gzip", False)
    assert environment.warnings == ()
