"""One kept connection against a server that says exactly what it is told."""

from __future__ import annotations

import gzip
import ssl
from pathlib import Path

import pytest
import trio
import trustme

from agent.http import Client, Fault, deadline
from agent.http_kept import KeptGet
from agent.scripted import answer, serve, then_close, then_hang, then_reset
from agent.settings import Secret, Tls


async def test_requests_go_by_one_connection_with_the_client_s_headers(nursery: trio.Nursery) -> None:
    server = await serve(nursery, [answer(200, b"a"), answer(200, b"b")])
    client = Client(headers={"X-Mine": "1"}, bearer_token=Secret("t"))
    kept = KeptGet(client, server.url + "/x y?z=1")
    assert [(await kept.get({"accept": "text/plain"})).body for _ in range(2)] == [b"a", b"b"]
    request = server.requests[1]
    assert (request.method, request.target, request.connection) == ("GET", "/x%20y?z=1", 0)
    assert request.headers["host"] == server.url.removeprefix("http://")
    assert [request.headers[name] for name in ("x-mine", "authorization", "accept")] == ["1", "Bearer t", "text/plain"]
    kept.close()


async def test_a_host_of_the_operator_s_replaces_the_url_s(nursery: trio.Nursery) -> None:
    server = await serve(nursery, [answer(200, b"a")])
    kept = KeptGet(Client(headers={"Host": "metrics.example"}), server.url)
    await kept.get()
    assert server.requests[0].headers["host"] == "metrics.example"
    assert kept._request(None).count(b"host: ") == 1
    kept.close()


@pytest.mark.parametrize("ending", [then_close(), then_reset()])
async def test_a_kept_connection_that_proves_closed_is_nobody_s_failure(nursery: trio.Nursery, ending: object) -> None:
    server = await serve(nursery, [answer(200, b"a"), ending, answer(200, b"b")])  # type: ignore[list-item]
    kept = KeptGet(Client(), server.url)
    assert (await kept.get()).body == b"a"
    assert (await kept.get()).body == b"b"
    assert server.connections == 2
    kept.close()


async def test_a_new_connection_that_is_closed_is_a_failure(nursery: trio.Nursery) -> None:
    server = await serve(nursery, [then_close()])
    with pytest.raises(Fault, match="closed the connection without an answer") as caught:
        await KeptGet(Client(), server.url).get()
    assert caught.value.kind == "reset"


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na"), "short"),
        (answer(200, gzip.compress(b"a" * 99, mtime=0)[:-4], {"Content-Encoding": "gzip"}), "short"),
        (answer(200, gzip.compress(bytes(10**6), mtime=0), {"Content-Encoding": "gzip"}), "too_large"),
        (answer(200, b"a", {"Content-Encoding": "br"}), "encoding"),
        (then_hang(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na"), "timeout"),
        (then_close(b"hello\r\n"), "protocol"),
    ],
)
async def test_faults(nursery: trio.Nursery, step: object, kind: str) -> None:
    server = await serve(nursery, [step, answer(200, b"well")])  # type: ignore[list-item]
    kept = KeptGet(Client(), server.url)
    with pytest.raises(Fault) as caught, deadline(0.3, server.url):
        await kept.get(max_body=1000)
    assert caught.value.kind == kind
    assert str(caught.value).startswith("cannot ")
    assert (await kept.get()).body == b"well"  # by another connection
    kept.close()


async def test_a_status_counts_though_its_body_fails(nursery: trio.Nursery) -> None:
    server = await serve(nursery, [then_close(b"HTTP/1.1 503 X\r\nContent-Length: 5\r\n\r\na")])
    answered = await KeptGet(Client(), server.url).get()
    assert (answered.status, answered.body) == (503, b"a")
    assert answered.fault is not None


async def test_a_redirect_is_left_to_the_full_client(nursery: trio.Nursery) -> None:
    redirect = answer(302, b"", {"Location": "/there"})
    server = await serve(nursery, [redirect, redirect, answer(200, b"there")])
    client = Client()
    assert (await KeptGet(client, server.url).get()).body == b"there"
    await client.aclose()


async def test_headers_that_would_break_the_request_are_refused_unshown() -> None:
    with pytest.raises(Fault, match="illegal characters") as caught:
        await KeptGet(Client(headers={"a": "secret\r\nb: c"}), "http://127.0.0.1:1").get()
    assert "secret" not in str(caught.value)


async def test_tls(nursery: trio.Nursery, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = await serve(nursery, [answer(200, b"a"), answer(200, b"b"), answer(200, b"c")], context)
    kept = KeptGet(Client(tls=Tls(ca_file=str(tmp_path / "ca.pem"))), server.url)
    assert [(await kept.get()).body for _ in range(2)] == [b"a", b"b"]
    assert server.connections == 1
    (tmp_path / "ca.pem").write_bytes((tmp_path / "ca.pem").read_bytes() + b"\n")  # another file: another connection
    assert (await kept.get()).body == b"c"
    assert server.connections == 2
    kept.close()
    with pytest.raises(Fault, match="certificate is not accepted"):
        await KeptGet(Client(), server.url).get()


async def test_not_all_files_go_to_kept_connections(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    before = KeptGet._open_now
    monkeypatch.setattr("resource.getrlimit", lambda _: (2 * (before + 2), 1000))
    server = await serve(nursery, [answer(200, b"a")] * 6)
    kept = [KeptGet(Client(), server.url) for _ in range(3)]
    for _ in range(2):
        assert [(await one.get()).body for one in kept] == [b"a"] * 3
    assert server.connections == 4  # two are kept, the third is made anew
    for one in kept:
        one.close()
        one.close()
    assert KeptGet._open_now == before
