"""The HTTP client against a server that says exactly what it is told."""

from __future__ import annotations

import gzip
import socket
import ssl
import tracemalloc
import zlib
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from agent.http import Client, Fault, deadline, safe_url
from agent.scripted import Step, answer, serve, then_close, then_hang, then_reset
from agent.settings import BasicAuth, Secret, Tls

SECOND = 5.0  # a deadline that is not to be met, for exchanges on loopback
GZIP = {"Content-Encoding": "gzip"}


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def words_of(value: object) -> str:
    """A case's name: its words, without the bytes."""
    return value if isinstance(value, str) else ""


@pytest.fixture
async def client():
    client = Client()
    yield client
    await client.aclose()


async def fetch(client: Client, url: str, max_bytes: int = 1000, seconds: float = SECOND) -> tuple[int, bytes]:
    with deadline(seconds, url):
        async with client.get(url) as response:
            return response.status, await response.read(max_bytes)


async def fault_of(client: Client, url: str, max_bytes: int = 1000, seconds: float = SECOND) -> Fault:
    with pytest.raises(Fault) as caught:
        await fetch(client, url, max_bytes, seconds)
    assert str(caught.value).startswith("cannot ")
    return caught.value


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, b"plain", b"plain"),
        ({"Content-Encoding": "identity"}, b"plain", b"plain"),
        (GZIP, packed(b"one"), b"one"),
        ({"Content-Encoding": " GZip "}, packed(b"one"), b"one"),
        (GZIP, packed(b"one") + packed(b" two"), b"one two"),
        (GZIP, packed(b"one") + bytes(7), b"one"),
        (GZIP, packed(b""), b""),
        ({"Content-Encoding": "deflate"}, zlib.compress(b"zlib"), b"zlib"),
        ({"Content-Encoding": "deflate"}, zlib.compress(b"raw" * 9)[2:-4], b"raw" * 9),
    ],
    ids=words_of,
)
async def test_bodies_are_inflated(nursery, client, headers, body, expected):
    server = await serve(nursery, [answer(200, body, headers)])
    assert await fetch(client, server.url) == (200, expected)


@pytest.mark.parametrize(
    ("step", "kind", "words"),
    [
        (answer(200, packed(b"x" * 500)[:-1], GZIP), "short", "gzip stream ended early"),
        (answer(200, b"", GZIP), "short", "gzip stream ended early"),
        (answer(200, packed(b"x")[:-5] + b"12345", GZIP), "encoding", "it is not gzip"),
        (answer(200, packed(b"x") + b"rest", GZIP), "encoding", "it is not gzip"),
        (answer(200, b"plain", GZIP), "encoding", "it is not gzip"),
        (
            answer(200, zlib.compress(b"x") + b"rest", {"Content-Encoding": "deflate"}),
            "encoding",
            "bytes after its end",
        ),
        (answer(200, b"x", {"Content-Encoding": "br"}), "encoding", "'br' is not known"),
        (answer(200, b"x" * 1001), "too_large", "larger than 1000B inflated"),
        (answer(200, packed(b"x" * 1001), GZIP), "too_large", "larger than 1000B inflated"),
        (then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "short", "ended early"),
        (then_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "short", "ended early"),
        (then_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "reset", "reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", "protocol", "is not HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "protocol", "is not HTTP"),
        (then_close(), "reset", "closed the connection without an answer"),
        (then_reset(), "reset", "reset the connection"),
    ],
    ids=words_of,
)
async def test_faults_of_answers(nursery, client, step: Step, kind, words):
    server = await serve(nursery, [step, answer(200, b"again")])
    fault = await fault_of(client, server.url)
    assert (fault.kind, words in str(fault)) == (kind, True), fault
    assert await fetch(client, server.url) == (200, b"again")  # a fault leaves the client usable


async def test_a_bomb_is_refused_in_bounded_memory(nursery, client):
    bomb = packed(bytes(64 << 20))
    server = await serve(nursery, [answer(200, bomb, GZIP)])
    tracemalloc.start()
    try:
        fault = await fault_of(client, server.url, max_bytes=32 << 20)
        assert fault.kind == "too_large"
        tracemalloc.clear_traces()
        server.steps = iter([answer(200, bomb, GZIP)])
        size = 0
        async with client.get(server.url) as response:
            async for chunk in response.chunks(1 << 30):
                assert len(chunk) <= 1 << 20
                size += len(chunk)
        assert size == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


async def test_empty_gzip_members_do_not_go_on_for_ever(nursery, client):
    server = await serve(nursery, [answer(200, packed(b"") * 60_000, GZIP)])
    assert (await fault_of(client, server.url)).kind == "too_large"


async def test_a_body_left_half_way_leaves_nothing_open(nursery, client):
    server = await serve(nursery, [answer(200, b"x" * 5_000_000), answer(200, b"next")])
    async with client.get(server.url) as response:
        async for chunk in response.chunks(10_000_000):
            assert chunk
            break
    assert await fetch(client, server.url) == (200, b"next")


async def test_a_drip_meets_the_deadline(nursery, client, autojump_clock):
    async def drip(connection, request):
        await connection.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            await trio.sleep(3)
            await connection.send_all(b"x")

    autojump_clock.autojump_threshold = 0.05  # loopback takes real time
    server = await serve(nursery, [drip])
    started = trio.current_time()
    fault = await fault_of(client, server.url, seconds=10)
    assert (fault.kind, "more than 10s" in str(fault)) == ("timeout", True)
    assert trio.current_time() - started < 12


async def test_refused(client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        fault = await fault_of(client, f"http://127.0.0.1:{unused.getsockname()[1]}/federate")
    assert fault.kind == "refused"
    assert "/federate: connection refused; check that the server runs" in str(fault)


async def test_a_name_that_cannot_be_resolved(client):
    fault = await fault_of(client, "http://no-such-host.invalid/")
    assert fault.kind == "dns"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "127.0.0.1:80", "http://[::1"])
async def test_wrong_urls(client, url):
    assert (await fault_of(client, url)).kind == "protocol"


async def test_faults_show_no_secret(nursery):
    client = Client(headers={"x-key": Secret("s3cret\r\nx: y")})
    server = await serve(nursery, [])
    fault = await fault_of(client, server.url.replace("//", "//user:s3cret@") + "/path?token=s3cret")
    assert "s3cret" not in str(fault)
    assert fault.__cause__ is None
    assert "headers" in str(fault)
    await client.aclose()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:p@host:9090/federate?match=x#f", "http://host:9090/federate"),
        ("https://[::1]:4318", "https://[::1]:4318"),
        ("http://[", "an unreadable URL"),
    ],
)
def test_safe_url(url, shown):
    assert safe_url(url) == shown


async def test_query_parameters_and_headers(nursery):
    client = Client(headers={"X-Scope": "a", "User-Agent": "me"})
    server = await serve(nursery, [answer()])
    async with client.get(server.url + "/federate?a=1", [("match[]", '{job="a b"}')], {"x-scope": "b"}) as response:
        assert response.status == 200
    request = server.requests[0]
    assert request.target == "/federate?a=1&match%5B%5D=%7Bjob%3D%22a%20b%22%7D"
    assert request.headers["x-scope"] == "b"
    assert request.headers["user-agent"] == "me"
    assert request.headers["accept-encoding"] == "gzip"
    await client.aclose()


async def test_connections_are_kept(nursery, client):
    server = await serve(nursery, [answer(200, b"x")] * 3)
    for _ in range(3):
        await fetch(client, server.url)
    assert server.connections == 1


@pytest.mark.parametrize("end", [then_close, then_reset], ids=["closed", "reset"])
async def test_a_kept_connection_closed_at_its_next_use_is_no_fault(nursery, client, end):
    """The request goes by another one; a fault of a new connection is one."""
    server = await serve(nursery, [answer(200, b"a"), end(), answer(200, b"b"), end(), end()])
    assert await fetch(client, server.url) == (200, b"a")
    assert await fetch(client, server.url) == (200, b"b")
    assert [request.connection for request in server.requests] == [0, 0, 1]
    assert (await fault_of(client, server.url)).kind == "reset"
    assert [request.connection for request in server.requests[3:]] == [1, 2]


async def test_what_breaks_after_the_head_is_not_repeated(nursery, client):
    broken = then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    server = await serve(nursery, [answer(200, b"a"), broken])
    assert await fetch(client, server.url) == (200, b"a")
    assert (await fault_of(client, server.url)).kind == "short"
    assert len(server.requests) == 2


@pytest.mark.parametrize(("status", "known"), [(200, False), (400, True), (503, True)])
async def test_a_status_that_is_not_success_counts_without_its_body(nursery, client, status, known):
    server = await serve(nursery, [then_hang(f"HTTP/1.1 {status} X\r\nContent-Length: 9\r\n\r\nabc".encode())])
    if known:
        got = await client.post(server.url, b"", timeout=0.1)
        assert (got.status, got.body, got.fault and got.fault.kind) == (status, b"", "timeout")
        return
    with pytest.raises(Fault, match="more than 100ms"):
        await client.post(server.url, b"", timeout=0.1)


async def test_the_bearer_token_file_is_read_again(nursery, tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("one\n")
    client = Client(bearer_token_file=str(token))
    server = await serve(nursery, [answer()] * 3)
    await fetch(client, server.url)
    token.write_text("second\n")
    await fetch(client, server.url)
    assert [r.headers["authorization"] for r in server.requests] == ["Bearer one", "Bearer second"]
    token.unlink()
    fault = await fault_of(client, server.url)
    assert (fault.kind, "bearer_token_file" in str(fault)) == ("credentials", True)
    await client.aclose()


async def test_basic_authentication(nursery, tmp_path: Path):
    (tmp_path / "password").write_text("pässword\n")
    client = Client(basic_auth=BasicAuth(username="me", password_file=str(tmp_path / "password")))
    server = await serve(nursery, [answer()])
    await fetch(client, server.url)
    assert server.requests[0].headers["authorization"] == "Basic bWU6cMOkc3N3b3Jk"
    await client.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_get_follows_redirects_at_home(nursery, client, status):
    server = await serve(nursery, [answer(status, headers={"Location": "/there"}), answer(200, b"here")])
    assert await fetch(client, server.url) == (200, b"here")
    assert [r.target for r in server.requests] == ["/", "/there"]


async def test_redirects_abroad_are_not_followed(nursery, client):
    abroad = await serve(nursery, [answer(200, b"stolen")])
    server = await serve(nursery, [answer(302, headers={"Location": abroad.url})])
    assert await fetch(client, server.url) == (302, b"")
    assert abroad.requests == []


async def test_redirects_in_a_circle_end(nursery, client):
    server = await serve(nursery, [answer(302, headers={"Location": "/"})] * 9)
    assert (await fetch(client, server.url))[0] == 302
    assert len(server.requests) == 6


async def test_post_keeps_method_and_body_through_307(nursery, client):
    server = await serve(nursery, [answer(307, headers={"Location": "/there"}), answer(200, b"ok")])
    with deadline(SECOND, server.url):
        got = await client.post(server.url, b"body", {"content-type": "text/x"})
    assert (got.status, got.body) == (200, b"ok")
    assert [(r.method, r.target, r.body) for r in server.requests] == [
        ("POST", "/", b"body"),
        ("POST", "/there", b"body"),
    ]


async def test_post_does_not_become_get(nursery, client):
    server = await serve(nursery, [answer(302, headers={"Location": "/there"})])
    assert (await client.post(server.url, b"body")).status == 302


async def test_post_limits_the_answer(nursery, client):
    server = await serve(nursery, [answer(200, packed(bytes(5000)), GZIP)])
    with pytest.raises(Fault) as caught:
        await client.post(server.url, b"", max_response=4999)
    assert caught.value.kind == "too_large"


async def test_post_knows_the_status_of_an_answer_that_cannot_be_inflated(nursery, client):
    server = await serve(nursery, [answer(503, b"plain", GZIP)])
    got = await client.post(server.url, b"")
    assert (got.status, got.body, got.fault and got.fault.kind) == (503, b"", "encoding")


class Authority:
    """A certificate authority and a server by it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def spoil(self) -> None:
        Path(self.ca_file).write_text("half written")

    def server(self, *names: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(*names).configure_cert(context)
        return context

    def client(self, name: str) -> tuple[str, str]:
        certificate = self.ca.issue_cert(name)
        paths = str(self.folder / "client.pem"), str(self.folder / "client.key")
        certificate.cert_chain_pems[0].write_to_path(paths[0])
        certificate.private_key_pem.write_to_path(paths[1])
        return paths


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def with_tls(server_url: str, connect_timeout: float = SECOND, **tls: object) -> tuple[int, bytes]:
    client = Client(tls=Tls(**tls), connect_timeout=connect_timeout)
    try:
        return await fetch(client, server_url)
    finally:
        await client.aclose()


async def test_tls(nursery, authority):
    server = await serve(nursery, [answer(200, b"secure")], authority.server("127.0.0.1"))
    assert await with_tls(server.url, ca_file=authority.ca_file) == (200, b"secure")


async def test_tls_server_name(nursery, authority):
    server = await serve(nursery, [answer(200, b"secure")], authority.server("prometheus.example"))
    assert await with_tls(server.url, ca_file=authority.ca_file, server_name="prometheus.example") == (200, b"secure")


async def test_tls_skipping_verification(nursery, authority):
    server = await serve(nursery, [answer(200, b"secure")], authority.server("other.example"))
    assert await with_tls(server.url, insecure_skip_verify=True) == (200, b"secure")


@pytest.mark.parametrize(
    ("trusted", "name", "words"),
    [
        (False, "127.0.0.1", "(unable to get local issuer certificate); set `tls.ca_file`"),
        (True, "other.example", "not valid for '127.0.0.1'); set `tls.server_name`"),
    ],
)
async def test_tls_refused(nursery, authority, trusted, name, words):
    server = await serve(nursery, [], authority.server(name))
    with pytest.raises(Fault) as caught:
        await with_tls(server.url, **({"ca_file": authority.ca_file} if trusted else {}))
    assert caught.value.kind == "tls"
    assert words in str(caught.value)


async def test_tls_to_a_plain_server(nursery):
    async def not_tls(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    listeners = await nursery.start(partial(trio.serve_tcp, not_tls, 0, host="127.0.0.1"))
    with pytest.raises(Fault) as caught:
        await with_tls(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}/")
    assert caught.value.kind == "tls"
    assert "does not speak TLS there" in str(caught.value)


async def test_a_handshake_that_never_ends_meets_the_timeout_of_connecting(nursery):
    server = await serve(nursery, [then_hang()])
    with pytest.raises(Fault) as caught:
        await with_tls(server.url.replace("http:", "https:"), connect_timeout=0.1)
    assert caught.value.kind == "timeout"
    assert "connecting took too long" in str(caught.value)


async def test_a_client_certificate(nursery, authority):
    context = authority.server("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    authority.ca.configure_trust(context)
    server = await serve(nursery, [answer(200, b"mutual")] * 2, context)
    certificate, key = authority.client("ebbtide.example")
    assert await with_tls(server.url, ca_file=authority.ca_file, cert_file=certificate, key_file=key) == (
        200,
        b"mutual",
    )


async def test_certificate_files_are_read_again(nursery, authority, caplog):
    other = trustme.CA()
    server = await serve(nursery, [answer(200, b"x")] * 4, authority.server("127.0.0.1"))
    client = Client(tls=Tls(ca_file=authority.ca_file))
    assert (await fetch(client, server.url))[0] == 200
    authority.spoil()
    assert (await fetch(client, server.url))[0] == 200  # the old ones stay
    assert (await fetch(client, server.url))[0] == 200
    assert caplog.text.count("stay in use") == 1
    other.cert_pem.write_to_path(authority.ca_file)
    with pytest.raises(Fault, match="not accepted"):
        await fetch(client, server.url)
    await client.aclose()


async def test_certificate_files_that_cannot_be_read(tmp_path: Path):
    for text in (None, "not PEM"):
        path = tmp_path / "ca.pem"
        if text is not None:
            path.write_text(text)
        with pytest.raises(Fault, match=r"cannot load the certificates for https://127\.0\.0\.1:1/") as caught:
            await with_tls("https://127.0.0.1:1/", ca_file=str(path))
        assert caught.value.kind == "tls"
