"""TLS that fails with a sentence, mutual TLS, files that change, proxies, and that nothing shows a secret."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from agent.scripted import answer, serve
from ebbtide import ConfigError, Rejected, Retry
from tests.compliance.destination import exporter, sealed
from tests.compliance.rules import GRPC, HTTP, rule
from tests.compliance.servers import Context, GrpcServer, Http2Calls, Secure, response, serve_connections, tls_server

over_http = pytest.mark.parametrize("protocol", HTTP)


class Pair:
    """The files of a client certificate and its key."""

    def __init__(self, folder: Path):
        self.cert_file, self.key_file = folder / "client.pem", folder / "client.key"

    def write(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert("ebbtide.example")
        issued.cert_chain_pems[0].write_to_path(str(self.cert_file))
        issued.private_key_pem.write_to_path(str(self.key_file))

    def write_key_of(self, authority: trustme.CA) -> None:
        """Half of another pair."""
        authority.issue_cert("ebbtide.example").private_key_pem.write_to_path(str(self.key_file))

    def truncate_key(self) -> None:
        self.key_file.write_bytes(self.key_file.read_bytes()[:100])

    def remove_key(self) -> None:
        self.key_file.unlink()

    @property
    def options(self) -> dict[str, str]:
        return {"cert_file": str(self.cert_file), "key_file": str(self.key_file)}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class AuthorityFile(str):
    """The path of the authority to trust, and what may become of the file."""

    def write(self, authority: trustme.CA) -> None:
        authority.cert_pem.write_to_path(self)

    def remove(self) -> None:
        Path(self).unlink()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> AuthorityFile:
    file = AuthorityFile(tmp_path / "ca.pem")
    file.write(authority)
    return file


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
def context(authority: trustme.CA) -> Context:
    """Makes the context of a server; ``mutual``: it asks for a client certificate of the same authority."""

    def make(name: str = "127.0.0.1", mutual: bool = False, **validity: Any) -> ssl.SSLContext:
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name, **validity).configure_cert(made)
        made.set_alpn_protocols(["h2", "http/1.1"])
        if mutual:
            made.verify_mode = ssl.CERT_REQUIRED
            authority.configure_trust(made)
        return made

    return make


async def sentence(protocol: str, port: int, batch: Any, scheme: str = "https", **tls: Any) -> str:
    """What a failed attempt says; it is one that is tried again."""
    url = f"{scheme}://127.0.0.1:{port}"
    options = {"tls": tls} if tls else {}
    async with exporter(endpoint=url, protocol=protocol, timeout="5s", **options) as otlp:
        with pytest.raises(Retry) as caught:
            await otlp.send(sealed(otlp, batch))
    assert str(caught.value).startswith("cannot ")
    return str(caught.value)


@rule("T.1")
async def test_an_authority_that_is_not_trusted(protocol, batch, context):
    with tls_server(context()) as port:
        said = await sentence(protocol, port, batch)
    assert "certificate is not accepted (unable to get local issuer certificate); set `tls.ca_file`" in said


@rule("T.2")
async def test_a_certificate_for_another_host(protocol, batch, context, ca_file):
    with tls_server(context("other.example")) as port:
        said = await sentence(protocol, port, batch, ca_file=ca_file)
    assert "not valid for" in said
    assert "set `tls.server_name` to a name in it" in said


@rule("T.3")
async def test_a_certificate_that_has_expired(protocol, batch, context, ca_file):
    past = {"not_before": datetime.datetime(2019, 1, 1), "not_after": datetime.datetime(2020, 1, 1)}
    with tls_server(context(**past)) as port:
        said = await sentence(protocol, port, batch, ca_file=ca_file)
    assert "(certificate has expired); renew it on the server" in said


@rule("T.4")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("given", [False, True], ids=["missing", "of another authority"])
async def test_a_client_certificate_that_is_refused(protocol, batch, context, ca_file, pair, version, given):
    asking = context(mutual=True)
    asking.maximum_version = version
    pair.write(trustme.CA())
    with tls_server(asking) as port:
        said = await sentence(protocol, port, batch, ca_file=ca_file, **(pair.options if given else {}))
    assert "client certificate" in said
    assert "`tls.cert_file`" in said


@rule("T.5")
async def test_tls_to_a_port_of_plain_text(protocol, nursery, batch):
    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    said = await sentence(protocol, await serve_connections(nursery, plain), batch)
    assert "the server does not speak TLS there" in said
    assert "use http://, or the port that speaks TLS" in said


@rule("T.5")
async def test_plain_text_to_a_port_of_tls(protocol, nursery, batch):
    async def alert(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\x15\x03\x01\x00\x02\x02\x46")  # as OpenSSL and Go answer: a fatal alert
        await stream.send_eof()
        while await stream.receive_some():
            pass

    said = await sentence(protocol, await serve_connections(nursery, alert), batch, scheme="http")
    assert "https://" in said


@rule("T.5", *HTTP)
@over_http
async def test_a_server_in_go_says_it_by_400(protocol, nursery, batch):
    said = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

    async def go(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(said)
        await stream.send_eof()
        while await stream.receive_some():
            pass

    port = await serve_connections(nursery, go)
    async with exporter(endpoint=f"http://127.0.0.1:{port}", protocol=protocol) as otlp:
        with pytest.raises(Rejected, match=r"HTTP 400, .*Client sent an HTTP request to an HTTPS server"):
            await otlp.send(sealed(otlp, batch))


@rule("T.6")
@over_http
async def test_http_to_a_port_of_grpc(protocol, batch):
    server = GrpcServer()
    said = await sentence(protocol, server.port, batch, scheme="http")
    server.stop()
    assert "the server may speak TLS or gRPC there: use https://, or the port for HTTP" in said


@rule("T.6", GRPC)
async def test_grpc_to_a_port_of_http(nursery, batch):
    async def http1(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer(400))

    said = await sentence(GRPC, await serve_connections(nursery, http1), batch, scheme="http")
    assert 'the server speaks HTTP/1.1 there; use the port for gRPC (4317 by default), or `protocol` = "http/' in said


@rule("T.7")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_a_server_below_tls_1_2(protocol, batch, context, ca_file):
    old = context()
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with tls_server(old) as port:
        said = await sentence(protocol, port, batch, ca_file=ca_file)
    assert "no version of TLS in common" in said
    assert "let the server speak TLS 1.2 or newer" in said


@pytest.fixture
def secure(protocol: str, context: Context, authority: trustme.CA) -> Any:
    made = Secure(protocol, context, authority)
    yield made
    made.close()


@rule("T.2")
async def test_a_server_name(secure, nursery, batch, ca_file):
    await secure.open(nursery, name="otlp.example")
    tls = {"ca_file": ca_file, "server_name": "otlp.example"}
    async with exporter(endpoint=secure.url, protocol=secure.protocol, tls=tls) as otlp:
        await otlp.send(sealed(otlp, batch))
    assert secure.taken == 1


@rule("T.8")
@rule("T.9")
async def test_mutual_tls_and_a_pair_that_changes(secure, nursery, batch, ca_file, pair, authority, caplog):
    """Not trusted, then rotated to one that is, then half-written, then whole again: without a restart."""
    await secure.open(nursery, mutual=True)
    pair.write(trustme.CA())
    tls = {"ca_file": ca_file, **pair.options}
    async with exporter(endpoint=secure.url, protocol=secure.protocol, tls=tls) as otlp:
        payload = sealed(otlp, batch)
        with pytest.raises(Retry):
            await otlp.send(payload)
        pair.write(authority)
        await otlp.send(payload)
        pair.write_key_of(authority)
        await otlp.send(payload)
        pair.truncate_key()
        await otlp.send(payload)
        pair.remove_key()
        await otlp.send(payload)
        assert "the certificates read before stay in use" in caplog.text
        pair.write(authority)
        await otlp.send(payload)
    assert secure.taken == 5


@rule("T.9")
async def test_an_authority_that_changes(secure, nursery, batch, ca_file, authority):
    await secure.open(nursery)
    tls = {"ca_file": ca_file}
    async with exporter(endpoint=secure.url, protocol=secure.protocol, tls=tls) as otlp:
        payload = sealed(otlp, batch)
        await otlp.send(payload)
        ca_file.write(trustme.CA())
        with pytest.raises(Retry, match="not accepted"):
            await otlp.send(payload)
        ca_file.write(authority)
        await otlp.send(payload)
    assert secure.taken == 2


@rule("T.9")
async def test_files_that_are_not_there_at_first(secure, nursery, batch, ca_file, authority):
    await secure.open(nursery)
    ca_file.remove()
    async with exporter(endpoint=secure.url, protocol=secure.protocol, tls={"ca_file": ca_file}) as otlp:
        with pytest.raises(Retry, match=r"cannot load the certificates for .*expected PEM files"):
            await otlp.send(sealed(otlp, batch))
        ca_file.write(authority)
        await otlp.send(sealed(otlp, batch))


@rule("T.10")
@over_http
async def test_a_proxy_over_http(protocol, nursery, batch):
    proxy = await serve(nursery, [answer(200)])
    environ = {"HTTP_PROXY": proxy.url, "NO_PROXY": "other.invalid"}
    async with exporter(environ=environ, endpoint="http://collector.invalid:4318", protocol=protocol) as otlp:
        await otlp.send(sealed(otlp, batch))
    assert proxy.requests[0].target == "http://collector.invalid:4318/v1/metrics"


@rule("T.10")
@over_http
async def test_a_tunnel_for_https(protocol, nursery, batch):
    proxy = await serve(nursery, [answer(407)])
    environ = {"HTTPS_PROXY": proxy.url.replace("//", "//me:s3cret@"), "HTTP_PROXY": "http://127.0.0.1:1"}
    async with exporter(environ=environ, endpoint="https://collector.invalid", protocol=protocol) as otlp:
        with pytest.raises(Retry, match=r"through the proxy http://127.*the proxy refused \(407") as caught:
            await otlp.send(sealed(otlp, batch))
    assert (proxy.requests[0].method, proxy.requests[0].target) == ("CONNECT", "collector.invalid:443")
    assert "s3cret" not in str(caught.value)


@rule("T.10", GRPC)
async def test_a_tunnel_for_grpc(nursery, batch):
    """HTTPS_PROXY alone, whatever the scheme, as grpc-go and so the Collector."""
    asked: list[bytes] = []

    async def tunnel(stream: trio.SocketStream) -> None:
        asked.append(await stream.receive_some())
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        calls = Http2Calls(stream)
        await calls.begin()
        await stream.send_all(response(await calls.next()))
        await calls.next()

    port = await serve_connections(nursery, tunnel)
    environ = {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "HTTP_PROXY": "http://127.0.0.1:1"}
    async with exporter(environ=environ, endpoint="http://collector.invalid:4317", protocol=GRPC) as otlp:
        await otlp.send(sealed(otlp, batch))
    assert asked[0].startswith(b"CONNECT collector.invalid:4317 HTTP/1.")


@rule("T.10")
@pytest.mark.parametrize("environ", [{}, {"NO_PROXY": "*"}])
async def test_no_proxy_to_loopback(destination, batch, environ):
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1")
    async with exporter(destination, environ={**proxies, **environ}) as otlp:
        await otlp.send(sealed(otlp, batch))
    assert len(destination.requests) == 1


@rule("T.10")
def test_a_proxy_that_cannot_be_used(protocol):
    with pytest.raises(ConfigError, match="the proxy given by HTTPS_PROXY in the environment") as caught:
        exporter(environ={"HTTPS_PROXY": "socks5://me:s3cret@p"}, endpoint="https://c:1", protocol=protocol)
    assert "s3cret" not in str(caught.value)


@rule("T.11")
@pytest.mark.parametrize("status", [400, 503])
async def test_no_error_shows_a_secret(destination, batch, caplog, status):
    from tests.compliance.destination import BUSY, REFUSED

    destination.script = [REFUSED if status == 400 else BUSY]
    url = (
        destination.url if destination.protocol == GRPC else destination.url.replace("//", "//me:s3cret@") + "?k=s3cret"
    )
    async with exporter(destination, endpoint=url, headers={"authorization": "s3cret"}) as otlp:
        with pytest.raises((Rejected, Retry)) as caught:
            await otlp.send(sealed(otlp, batch))
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r} {caplog.text}"
    assert "authorization" in destination.requests[0][1]
