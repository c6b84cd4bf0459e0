"""Listening: addresses that cannot be had, sockets that are shared, and TLS whose files change."""

from __future__ import annotations

import contextlib
import logging
import ssl
from pathlib import Path

import pytest
import trio
import trustme
from pydantic import ValidationError

from agent.httpserver import Limits, Request, Response, serve_listeners
from agent.listening import (
    CannotListen,
    ServerTls,
    close_listeners,
    open_listeners,
    port_of,
    server_context,
    share_listeners,
)

LOOPBACK = ("127.0.0.1", 0)


async def test_an_address_that_is_taken_is_a_sentence_that_names_the_option() -> None:
    listeners = await open_listeners(LOOPBACK, "receivers.a.listen")
    port = port_of(listeners)
    with pytest.raises(CannotListen, match=rf"cannot listen at 127.0.0.1:{port}: .* in use; set `receivers.a.listen`"):
        await open_listeners(("127.0.0.1", port), "receivers.a.listen")
    with pytest.raises(CannotListen, match=r"cannot listen at \[2001:db8::1\]:1: "):
        await open_listeners(("2001:db8::1", 1), "x")
    close_listeners(listeners)


async def test_a_shared_socket_stays_open_when_the_other_is_closed() -> None:
    first = await open_listeners(LOOPBACK, "x")
    second, port = share_listeners(first), port_of(first)
    close_listeners(first)
    async with await trio.open_tcp_stream("127.0.0.1", port):
        assert port_of(second) == port
    close_listeners(second)


@pytest.mark.parametrize("given", [{"key_file": "k"}, {"client_ca_file": "c"}])
def test_what_belongs_to_a_certificate_needs_one(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ServerTls.model_validate(given)


class Papers:
    """A certificate of an authority, in files."""

    def __init__(self, folder: Path):
        self.ca, self.folder = trustme.CA(), folder
        self.renew()
        self.ca.cert_pem.write_to_path(folder / "ca.pem")
        self.tls = ServerTls(cert_file=str(folder / "cert.pem"), key_file=str(folder / "key.pem"))

    def renew(self) -> None:
        issued = self.ca.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(self.folder / "key.pem")
        (self.folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert server_context(ServerTls()) is None


def test_files_that_are_wrong_are_a_sentence(papers: Papers) -> None:
    (papers.folder / "key.pem").write_text("nonsense")
    with pytest.raises(CannotListen, match="cannot load the certificates to listen with"):
        server_context(papers.tls)
    with pytest.raises(CannotListen, match="No such file"):
        server_context(ServerTls(cert_file="/nowhere.pem"))


def test_files_are_read_again_when_they_change(papers: Papers, caplog: pytest.LogCaptureFixture) -> None:
    context = server_context(papers.tls)
    assert context is not None
    first = context()
    assert context() is first
    papers.renew()
    second = context()
    assert second is not first
    (papers.folder / "cert.pem").write_text("nonsense")
    with caplog.at_level(logging.WARNING):
        assert context() is second
    assert "the former ones go on to serve" in caplog.text


async def answer(request: Request) -> Response:
    return Response(200, b"well " + request.body)


async def ask(port: int, context: ssl.SSLContext) -> bytes:
    stream = trio.SSLStream(
        await trio.open_tcp_stream("127.0.0.1", port), context, server_hostname="127.0.0.1", https_compatible=True
    )
    async with stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        return b"".join([bytes(part) async for part in stream])


async def serve(nursery: trio.Nursery, tls: ServerTls) -> int:
    listeners = await open_listeners(LOOPBACK, "x")
    context = server_context(tls)
    await nursery.start(lambda task_status: serve_listeners(answer, listeners, limits=Limits(), tls=context, task_status=task_status))  # fmt: skip
    return port_of(listeners)


async def test_requests_inside_tls(nursery: trio.Nursery, papers: Papers) -> None:
    port = await serve(nursery, papers.tls)
    assert (await ask(port, papers.client())).endswith(b"well ok")


async def test_a_client_without_a_certificate_is_let_go_where_one_is_asked_for(
    nursery: trio.Nursery, papers: Papers
) -> None:
    tls = papers.tls.model_copy(update={"client_ca_file": str(papers.folder / "ca.pem")})
    port = await serve(nursery, tls)
    said = b""
    with contextlib.suppress(trio.BrokenResourceError):  # or the connection just ends
        said = await ask(port, papers.client())
    assert said == b""
    context = papers.client()
    papers.ca.issue_cert("client").configure_cert(context)
    assert (await ask(port, context)).endswith(b"well ok")


async def test_a_client_that_speaks_no_tls_ends_nothing(nursery: trio.Nursery, papers: Papers) -> None:
    port = await serve(nursery, papers.tls)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        with contextlib.suppress(trio.BrokenResourceError):
            said = b"".join([part async for part in stream])
        assert not said.startswith(b"HTTP")
    assert (await ask(port, papers.client())).endswith(b"well ok")
