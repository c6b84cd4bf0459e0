"""OTEL_EXPORTER_OTLP_*: each variable, generic and for metrics, by each protocol; what beats what; what is nonsense."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from ebbtide import ConfigError
from exporters.otlp_env import INDEFINITE
from exporters.otlp_grpc import GrpcSender
from tests.compliance.destination import exporter, sealed
from tests.compliance.rules import GRPC, HTTP, JSON, PROTOBUF, PROTOCOLS, rule
from tests.compliance.servers import Secure

PREFIX = "OTEL_EXPORTER_OTLP_"


def both(word: str) -> Any:
    """A test once for each form of a variable, marked as its rule; ``form`` is "" or "METRICS_"."""
    forms = [pytest.param(form, marks=rule(f"{PREFIX}{form}{word}")) for form in ("", "METRICS_")]
    return pytest.mark.parametrize("form", forms)


def environ_of(protocol: str, form: str = "", **words: str) -> dict[str, str]:
    return {f"{PREFIX}PROTOCOL": protocol, **{f"{PREFIX}{form}{word}": value for word, value in words.items()}}


async def sent(environ: dict[str, str], batch: Any, **options: Any) -> None:
    async with exporter(environ=environ, **options) as otlp:
        await otlp.send(sealed(otlp, batch))


def where(environ: dict[str, str], **options: Any) -> str:
    return exporter(environ=environ, **options)._sender.where


@both("ENDPOINT")
async def test_endpoint(destination, batch, form):
    await sent(environ_of(destination.protocol, form, ENDPOINT=f"{destination.url}/"), batch)
    assert len(destination.requests) == 1
    if destination._http:
        assert destination._http.requests[0].target == ("/" if form else "/v1/metrics")


@both("ENDPOINT")
@pytest.mark.parametrize(
    ("value", "as_base", "as_it_is"),
    [
        ("http://c:1", "http://c:1/v1/metrics", "http://c:1/"),
        ("https://c/", "https://c/v1/metrics", "https://c/"),
        ("http://c/my", "http://c/my/v1/metrics", "http://c/my"),
        ("http://c/my//", "http://c/my/v1/metrics", "http://c/my//"),
    ],
)
@pytest.mark.parametrize("protocol", HTTP)
def test_paths(protocol, form, value, as_base, as_it_is):
    assert where(environ_of(protocol, form, ENDPOINT=value)) == (as_it_is if form else as_base)


@both("INSECURE")
@pytest.mark.parametrize("protocol", [GRPC])
@pytest.mark.parametrize(
    ("endpoint", "insecure", "secure"),
    [
        ("c:4317", "", True), ("c:4317", "false", True), ("c:4317", "TRUE", False),
        ("https://c:1", "true", True), ("http://c:1", "false", False),
    ],
)  # fmt: skip
def test_insecure(protocol, form, endpoint, insecure, secure):
    sender = exporter(environ=environ_of(protocol, form, ENDPOINT=endpoint, INSECURE=insecure))._sender
    assert isinstance(sender, GrpcSender)
    assert sender._secure is secure


@pytest.fixture
def files(tmp_path: Path) -> tuple[trustme.CA, dict[str, str]]:
    """An authority, its file, and those of a client certificate by it."""
    authority = trustme.CA()
    issued = authority.issue_cert("ebbtide.example")
    paths = {name: str(tmp_path / name) for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")}
    authority.cert_pem.write_to_path(paths["CERTIFICATE"])
    issued.cert_chain_pems[0].write_to_path(paths["CLIENT_CERTIFICATE"])
    issued.private_key_pem.write_to_path(paths["CLIENT_KEY"])
    return authority, paths


FORMS_OF_FILES = [
    pytest.param(
        form, marks=[rule(f"{PREFIX}{form}{word}") for word in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")]
    )
    for form in ("", "METRICS_")
]


@pytest.mark.parametrize("form", FORMS_OF_FILES)
async def test_files_of_tls(protocol, form, nursery, batch, files):
    """Mutual TLS by the environment alone."""
    authority, paths = files

    def context(name: str = "127.0.0.1", mutual: bool = False) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(made)
        made.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(made)
        return made

    secure = Secure(protocol, context, authority)
    await secure.open(nursery, mutual=True)
    await sent(environ_of(protocol, form, ENDPOINT=secure.url, **paths), batch)
    assert secure.taken == 1
    secure.close()


@both("HEADERS")
async def test_headers(destination, batch, form):
    environ = environ_of(destination.protocol, form, HEADERS="X-A = 1 ,x-b=a%20b%2Cc,authorization=Basic%20abc=,,")
    await sent({**environ, f"{PREFIX}ENDPOINT": destination.url}, batch)
    ((_, headers),) = destination.requests
    assert (headers["x-a"], headers["x-b"], headers["authorization"]) == ("1", "a b,c", "Basic abc=")


@both("COMPRESSION")
@pytest.mark.parametrize("value", ["none", "gzip", "GZIP"])
async def test_compression(destination, batch, form, value):
    environ = environ_of(destination.protocol, form, COMPRESSION=value)
    async with exporter(environ=environ, endpoint=destination.url) as otlp:
        await otlp.send(sealed(otlp, batch))
        if isinstance(otlp._sender, GrpcSender):
            assert otlp._sender._gzip is (value != "none")
    if destination._http:
        said = destination._http.requests[0].headers.get("content-encoding")
        assert said == (None if value == "none" else "gzip")


@both("COMPRESSION")
def test_zstd_is_none_of_grpc(protocol, form, caplog):
    pytest.importorskip("backports.zstd", reason="no zstd library is installed: pip install 'ebbtide[zstd]'")
    otlp = exporter(environ=environ_of(protocol, form, COMPRESSION="zstd"))
    assert otlp._codec.encoding == ("" if protocol == GRPC else "zstd")
    assert ("gRPC has no zstd; it is ignored" in caplog.text) is (protocol == GRPC)


@both("TIMEOUT")
@pytest.mark.parametrize(("value", "seconds"), [("2500", 2.5), ("1", 0.001), ("0", INDEFINITE)])
def test_timeout(protocol, form, value, seconds):
    assert exporter(environ=environ_of(protocol, form, TIMEOUT=value))._sender._timeout == seconds


@both("PROTOCOL")
async def test_protocol(destination, batch, form):
    environ = {f"{PREFIX}{form}PROTOCOL": destination.protocol, f"{PREFIX}ENDPOINT": destination.url}
    await sent(environ, batch)
    assert len(destination.decoded()[0].resource_metrics) == 2


VALUES = {
    "ENDPOINT": ("http://a:1", "http://b:2"), "INSECURE": ("true", "false"), "CERTIFICATE": ("a", "b"),
    "CLIENT_CERTIFICATE": ("a", "b"), "HEADERS": ("k=a", "k=b"), "COMPRESSION": ("gzip", "none"),
    "TIMEOUT": ("1000", "2000"),
}  # fmt: skip


def settled(environ: dict[str, str], **options: Any) -> dict[str, Any]:
    """What the exporter has made of its environment."""
    sender = exporter(environ=environ, **options)._sender
    plain = vars(sender)
    tls = plain["_tls"] if "_tls" in plain else plain["_client"]._tls
    headers = plain.get("_metadata") or dict(plain["_client"]._headers if "_client" in plain else {}).get("k")
    return {
        "where": sender.where, "timeout": plain["_timeout"], "secure": plain.get("_secure"), "headers": headers,
        "files": (tls.ca_file, tls.cert_file, tls.key_file),
        "compression": plain.get("_gzip", plain.get("_headers")),
    }  # fmt: skip


@rule("ENV.1")
@pytest.mark.parametrize("empty", ["", " "])
def test_empty_is_unset(protocol, empty):
    base = {f"{PREFIX}PROTOCOL": protocol}
    for word, (value, _) in VALUES.items():
        assert settled({**base, f"{PREFIX}{word}": empty, f"{PREFIX}METRICS_{word}": empty}) == settled(base)
        generic = {**base, f"{PREFIX}{word}": value}
        assert settled({**generic, f"{PREFIX}METRICS_{word}": empty}) == settled(generic)


@rule("ENV.2")
def test_the_form_for_metrics_wins(protocol):
    base = {f"{PREFIX}PROTOCOL": protocol}
    for word, (value, other) in VALUES.items():
        mine = {**base, f"{PREFIX}METRICS_{word}": other}
        assert settled({**mine, f"{PREFIX}{word}": value}) == settled(mine), word
    reverse = {f"{PREFIX}PROTOCOL": JSON if protocol != JSON else GRPC, f"{PREFIX}METRICS_PROTOCOL": protocol}
    assert settled(reverse) == settled(base)


@rule("ENV.3")
def test_the_file_wins(protocol):
    options: dict[str, Any] = {
        "endpoint": "https://file:9", "protocol": protocol, "headers": {"K": "file"}, "compression": "gzip",
        "timeout": "10s", "tls": {"ca_file": "f", "cert_file": "g", "key_file": "h"},
    }  # fmt: skip
    environ = {f"{PREFIX}{form}{word}": values[1] for word, values in VALUES.items() for form in ("", "METRICS_")}
    environ |= {f"{PREFIX}PROTOCOL": PROTOBUF if protocol != PROTOBUF else GRPC, f"{PREFIX}CLIENT_KEY": "b"}
    assert settled(environ, **options) == settled({}, **options)


@rule("ENV.3")
def test_what_the_file_leaves_open_is_the_environments(protocol):
    """Header by header, and of `tls` key by key; a client certificate and its key come from one place."""
    environ = environ_of(
        protocol, ENDPOINT="https://c:1", HEADERS="k=env", CERTIFICATE="ca", CLIENT_CERTIFICATE="cert", CLIENT_KEY="key"
    )
    got = settled(environ, headers={"other": "file"}, tls={"server_name": "n"})
    assert got["files"] == ("ca", "cert", "key")
    assert "env" in str(got["headers"])
    assert settled(environ, tls={"cert_file": "mine"})["files"] == ("ca", "mine", None)
    assert settled(environ, tls={"ca_file": "mine"})["files"] == ("mine", "cert", "key")


@rule("ENV.4")
@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("INSECURE", "s3cret"), ("HEADERS", "s3cret"), ("HEADERS", "a=s3cret%0d%0ax: y"), ("HEADERS", "a b=s3cret"),
        ("COMPRESSION", "s3cret"), ("TIMEOUT", "s3cret"), ("TIMEOUT", "-1"), ("TIMEOUT", "1.5"), ("TIMEOUT", "10s"),
        ("CLIENT_KEY", "s3cret"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["", "METRICS_"])
def test_nonsense_is_ignored_aloud(protocol, caplog, form, word, value):
    base = {f"{PREFIX}PROTOCOL": protocol}
    assert settled({**base, f"{PREFIX}{form}{word}": value}) == settled(base)
    (record,) = caplog.records
    assert f"{PREFIX}{form}{word} from the environment" in record.getMessage()
    assert "s3cret" not in caplog.text


@rule("ENV.4", *PROTOCOLS)
def test_an_unknown_protocol_is_ignored_aloud(caplog):
    assert where({f"{PREFIX}METRICS_PROTOCOL": "s3cret"}) == "http://localhost:4318/v1/metrics"
    assert f"cannot use {PREFIX}METRICS_PROTOCOL from the environment" in caplog.text
    assert "s3cret" not in caplog.text


@both("ENDPOINT")
@pytest.mark.parametrize("value", ["ftp://u:s3cret@c", "http://", "http://[s3cret", "http://c:s3cret"])
def test_an_endpoint_that_is_none_is_an_error(protocol, form, value):
    """To ignore it would send the data to this machine instead."""
    with pytest.raises(ConfigError, match=f"given by {PREFIX}{form}ENDPOINT in the environment") as caught:
        exporter(environ=environ_of(protocol, form, ENDPOINT=value))
    assert "s3cret" not in str(caught.value)
