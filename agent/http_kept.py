"""GET of one URL, again and again, by one connection that is kept: what thousands of small polls can afford.

Strategy. The full client (``http``) costs a millisecond a request, most of it in layers that a poll has no use for. Here
a request is one write and its answer mostly one read, on a trio stream. All that makes an exchange safe stays the same,
and the same code where there is any: headers and credentials, TLS contexts, bounded inflating, the words for faults, and
that a kept connection which proves closed is nobody's failure. Redirects are rare, and ``kubernetes://`` URLs cost a
port-forward: both are left to the full client.

There may be more targets than files that the process may open. Then only so many connections are kept that enough is left
for exporters, the admin port and the polls under way; the others are made anew at each poll.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping

import httpx
import trio

from agent.files import most_kept
from agent.http import CONNECT_TIMEOUT, Answer, Client
from agent.http_answer import AnswerReader
from agent.http_fault import Fault, explain, safe_url
from agent.inflate import Inflater
from agent.kubernetes.address import is_address
from agent.tls import client_context, files_stamp

_READ = 256 << 10  # bytes of one read
_REDIRECTS = (301, 302, 303, 307, 308)
_ILLEGAL = (b"\r", b"\n", b"\0")

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

log = logging.getLogger("ebbtide.http")


class _Closed(Exception):
    """A kept connection was closed before the answer began."""


class KeptGet:
    """One URL, and the connection to it. Headers, credentials and TLS are those of ``client``.

    One ``get`` at a time. Callers put a ``deadline`` around it.
    """

    _open_now = 0  # connections of all of them

    def __init__(self, client: Client, url: str):
        self._client = client
        self._url = url
        self._stream: Stream | None = None
        self._stamp: tuple[object, ...] = ()
        self._forwarded = is_address(url)
        if self._forwarded:
            return
        try:
            parts = httpx.URL(url)
            self._head = b"GET %s HTTP/1.1\r\n" % parts.raw_path
            self._host = b"host: %s\r\n" % parts.netloc
        except (httpx.InvalidURL, UnicodeError) as error:
            raise explain(error, url) from None
        self._secure = parts.scheme == "https"
        self._address = parts.raw_host.decode().strip("[]"), parts.port or (443 if self._secure else 80)

    async def get(self, headers: Mapping[str, str] | None = None, max_body: int = 64 << 20) -> Answer:
        """Return the whole answer, its body inflated. Raises Fault: "too_large" beyond ``max_body``, and so on.

        An answer that is not 200 counts though its body fails.
        """
        if self._forwarded:
            return await self._by_client(headers, max_body)
        request = self._request(headers)
        while True:
            kept = await self._connect()
            answer = AnswerReader()
            try:
                return await self._exchange(request, answer, headers, max_body)
            except (trio.BrokenResourceError, httpx.RemoteProtocolError) as error:
                fault = explain(error, self._url)
                if not (kept and not answer.status and fault.kind == "reset"):
                    raise fault from None
                log.debug("%s; this was a kept connection, so it is tried by another", fault)
            finally:
                if not (answer.complete and answer.keeps and KeptGet._open_now <= most_kept()):
                    self.close()

    def close(self) -> None:
        """Let go of the connection."""
        if self._forwarded:
            self._client.forget(self._url)
        stream, self._stream = self._stream, None
        if stream is not None:
            KeptGet._open_now -= 1
            transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
            transport.socket.close()

    def _request(self, headers: Mapping[str, str] | None) -> bytes:
        fields = self._client.fields(headers)
        if any(sign in part for field in fields for part in field for sign in _ILLEGAL):
            raise explain(httpx.LocalProtocolError("a header holds illegal characters"), self._url)
        host = b"" if any(name == b"host" for name, _ in fields) else self._host
        return b"".join((self._head, host, *(b"%s: %s\r\n" % field for field in fields), b"\r\n"))

    async def _exchange(
        self, request: bytes, answer: AnswerReader, headers: Mapping[str, str] | None, max_body: int
    ) -> Answer:
        stream = self._stream
        assert stream is not None
        await stream.send_all(request)
        inflater: Inflater | None = None
        body: list[bytes] = []
        try:
            while not answer.complete:
                data = await stream.receive_some(_READ)
                if not data:
                    answer.end()
                piece = answer.feed(bytes(data)) if data else b""
                if answer.status in _REDIRECTS and "location" in answer.headers:
                    self.close()
                    return await self._by_client(headers, max_body)
                if inflater is None and answer.status:
                    inflater = Inflater(answer.headers.get("content-encoding", ""), max_body, safe_url(self._url))
                if piece and inflater is not None:
                    for inflated in inflater.feed(piece):
                        body.append(inflated)
                        if len(body) > 1:  # one piece off the wire may inflate a thousandfold: let the deadline see it
                            await trio.lowlevel.checkpoint()
            if inflater is not None:
                inflater.finish()
        except (Fault, httpx.RemoteProtocolError, trio.BrokenResourceError) as error:
            if answer.status in (0, 200):
                raise
            fault = error if isinstance(error, Fault) else explain(error, self._url)
            return Answer(answer.status, answer.headers, b"".join(body), fault)
        return Answer(answer.status, answer.headers, b"".join(body))

    async def _by_client(self, headers: Mapping[str, str] | None, max_body: int) -> Answer:
        async with self._client.get(self._url, (), headers) as response:
            return Answer(response.status, response.headers, await response.read(max_body))

    async def _connect(self) -> bool:
        """Have a connection; return whether it was kept. One made under other certificate files is not used again."""
        context: ssl.SSLContext | None = None
        if self._secure:
            stamp = files_stamp(self._client.tls)
            if stamp != self._stamp:
                context = self._fresh_context(stamp)
            elif self._stream is None:
                context = client_context(self._client.tls, stamp, safe_url(self._url))
        if self._stream is not None:
            return True
        try:
            with trio.move_on_after(CONNECT_TIMEOUT) as scope:
                self._stream = await self._open(context)
                KeptGet._open_now += 1
        except (OSError, trio.BrokenResourceError, UnicodeError) as error:
            raise explain(error, self._url) from None
        if scope.cancelled_caught:
            raise explain(httpx.ConnectTimeout("connecting took too long"), self._url)
        return False

    def _fresh_context(self, stamp: tuple[object, ...]) -> ssl.SSLContext | None:
        try:
            context = client_context(self._client.tls, stamp, safe_url(self._url))
        except Fault as fault:
            if self._stream is None:
                raise
            log.warning("%s; the certificates read before stay in use", fault)
            self._stamp = stamp
            return None
        self._stamp = stamp
        self.close()
        return context

    async def _open(self, context: ssl.SSLContext | None) -> Stream:
        host, port = self._address
        stream = await trio.open_tcp_stream(host, port)
        if context is None:
            return stream
        secure = trio.SSLStream(stream, context, server_hostname=self._client.tls.server_name or host)
        try:
            await secure.do_handshake()
        except BaseException:
            stream.socket.close()
            raise
        return secure
