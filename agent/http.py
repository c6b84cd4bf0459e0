"""The one module that knows the HTTP client: limits, TLS, authentication, and faults that say what to do.

Strategy. One ``Client`` per target, since the pool of httpx walks every connection for every request and costs 60 ms
a request at 1,000 origins. Bodies are read raw and inflated here in bounded steps, because httpx inflates whatever
has arrived at once (300 MB of zeros from 300 kB on the wire) and because a gzip member that ends early must be a fault,
not a short page. Timeouts of httpx are per operation, so that a dripping server defeats them: there is none but for
connecting, and callers put one ``deadline`` around the whole exchange. Everything that can go wrong between two sockets
leaves as one exception, ``Fault``, with one sentence; its reason is found by walking the chain of causes, for httpx
reports a refused certificate with an empty message three levels above the reason.

A server may close a kept connection at the very moment at which it is used again. That is nobody's failure: a request
whose reused connection ends before the head of an answer came is sent again by another one (RFC 9112 §9.3.1; a GET may be
repeated, and OTLP accepts duplicates). Only what a new connection brings is reported.

Redirects are followed when they stay with the same host and port, or go from http to https on the same host: GET by any
of the five codes, POST by 307 and 308 only. Others are handed to the caller as they are: credentials go nowhere else.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

import httpcore
import httpx
import trio

from agent.credentials import authorization
from agent.http_fault import Fault, FaultKind, explain, safe_url
from agent.http_pool import Body, Forwards, Pool
from agent.inflate import CHUNK, Inflater
from agent.kubernetes.address import is_address, split_address, wire_url, with_query
from agent.settings import BasicAuth, Secret, Tls, show_duration
from agent.tls import client_context, files_stamp

__all__ = ["CHUNK", "Answer", "Client", "Fault", "FaultKind", "Response", "deadline", "safe_url"]

CONNECT_TIMEOUT = 10.0  # seconds for DNS, TCP and TLS together; the caller's deadline is usually shorter
KEEPALIVE_EXPIRY = 90.0  # seconds an idle connection is kept: must exceed the poll interval, or each poll reconnects
MAX_REDIRECTS = 5
USER_AGENT = f"ebbtide/{importlib.metadata.version('ebbtide')}"

log = logging.getLogger("ebbtide.http")


@contextmanager
def deadline(seconds: float, url: str) -> Iterator[None]:
    """Put one deadline around a whole exchange with ``url``; when it passes, raise a Fault of kind "timeout"."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError as error:
        raise Fault(
            "timeout",
            f"cannot finish the exchange with {safe_url(url)}: it took more than {show_duration(seconds)}; "
            "raise `timeout`, or look why the server is slow",
        ) from error


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, inflated. ``headers`` are looked up without regard to case.

    ``fault`` is set, and ``body`` empty, where the body could not be read: the status is known all the same.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    fault: Fault | None = None


class Response:
    """An answer whose body is still to be read; lives inside ``async with client.get(...)``."""

    def __init__(self, response: httpx.Response, url: str):
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.url = safe_url(url)
        self.upgraded: httpcore.AsyncNetworkStream | None = (
            response.extensions.get("network_stream") if self.status == 101 else None
        )  # lives as long as the block
        self._raw = response.aiter_raw()
        self._done = False
        self.complete = False  # whether the body has come to its end on the wire

    def chunks(self, max_bytes: int) -> AsyncIterator[bytes]:
        """Iterate once over the inflated body, in pieces of at most ``CHUNK`` bytes, in bounded memory.

        Raises Fault: "too_large" beyond ``max_bytes`` inflated bytes, "short" for a body that ends early, "encoding"
        for what cannot be inflated, "protocol", "reset" and so on for the connection.
        """
        return _Chunks(self, Inflater(self.headers.get("content-encoding", ""), max_bytes, self.url))

    async def read(self, max_bytes: int) -> bytes:
        """Return the whole inflated body; faults as in ``chunks``."""
        return b"".join([chunk async for chunk in self.chunks(max_bytes)])

    async def _piece(self) -> bytes | None:
        """The next piece off the wire, or None at the end."""
        try:
            with _faults(self.url):
                return await anext(self._raw, None)
        except BaseException:
            self._done = True
            raise

    async def _abandon(self) -> None:
        """End the reading. A cancelled read unwinds the nested generators of httpx, which nothing else closes."""
        if not self._done:
            self._done = True
            with trio.CancelScope() as scope, _ignored_faults():
                scope.cancel()
                async for _ in self._raw:
                    pass


class _Chunks:
    """The inflated body: an iterator of its own, since an async generator left half way has to be closed by hand."""

    def __init__(self, response: Response, inflater: Inflater):
        self._response = response
        self._inflater = inflater
        self._ready: Iterator[bytes] = iter(())

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        while True:
            piece = next(self._ready, None)
            if piece is not None:
                await trio.lowlevel.checkpoint()  # one wire piece may inflate a thousandfold: let the deadline see it
                return piece
            data = await self._response._piece()
            if data is None:
                self._response._done = self._response.complete = True
                self._inflater.finish()
                raise StopAsyncIteration
            self._ready = self._inflater.feed(data)


class Client:
    """HTTP to one target, with its credentials; connections are kept, files on disk are read again when they change.

    ``proxy`` is the URL of an HTTP proxy to go through. It and ``headers`` may hold secrets: no fault shows them.
    ``kubernetes://`` URLs lead through a port-forward into the cluster of ``kubeconfig`` and ``context``; all else that
    is said here, credentials above all, is for the server at its far end.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, str | Secret] | None = None,
        tls: Tls | None = None,
        basic_auth: BasicAuth | None = None,
        bearer_token: Secret | None = None,
        bearer_token_file: str | None = None,
        proxy: str | None = None,
        keepalive_expiry: float = KEEPALIVE_EXPIRY,
        connect_timeout: float = CONNECT_TIMEOUT,
        user_agent: str = USER_AGENT,
        kubeconfig: str | None = None,
        context: str | None = None,
    ):
        self._tls = tls or Tls()
        self._headers = {"user-agent": user_agent, "accept-encoding": "gzip", **_lowered(headers)}
        self._authorization = authorization(basic_auth, bearer_token, bearer_token_file)
        self._proxy = proxy
        self._via = f" through the proxy {safe_url(proxy)}" if proxy else ""
        self._timeout = httpx.Timeout(None, connect=connect_timeout)
        self._limits = httpx.Limits(keepalive_expiry=keepalive_expiry)
        self._pools: dict[bool, Pool] = {}  # by whether TLS is spoken
        self._forwards = Forwards(kubeconfig, context, self._timeout, self._limits)

    @asynccontextmanager
    async def get(
        self, url: str, params: Iterable[tuple[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Response]:
        """GET ``url`` with ``params`` appended to its query; the body is read inside the block, or dropped at its end."""
        url = with_query(url, urlencode(list(params), quote_via=quote))
        async with self._exchange("GET", url, None, headers) as response:
            yield response

    @asynccontextmanager
    async def post_form(
        self, url: str, params: Iterable[tuple[str, str]], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Response]:
        """POST ``params`` as a form, for a question too long for a URL. It may arrive twice; else as ``get``."""
        form = {"content-type": "application/x-www-form-urlencoded", **(headers or {})}
        async with self._exchange("POST", url, urlencode(list(params)).encode(), form) as response:
            yield response

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        max_response: int = 4 << 20,
        timeout: float = math.inf,
    ) -> Answer:
        """POST ``body`` and return the whole answer, at most ``max_response`` inflated bytes (else "too_large").

        It may arrive twice, where a kept connection breaks. A status that is not 2xx counts though its body fails: what
        the server decided is known then. One of 2xx counts if the body came whole, and only cannot be inflated.
        """
        answer: Answer | None = None
        try:
            with deadline(timeout, url):
                async with self._exchange("POST", url, body, headers) as response:
                    answer = Answer(response.status, response.headers, b"")
                    return replace(answer, body=await response.read(max_response))
        except Fault as fault:
            if answer is None or fault.kind == "too_large":
                raise
            if 200 <= answer.status < 300 and not response.complete and fault.kind != "encoding":
                raise
            return replace(answer, fault=fault)

    @property
    def tls(self) -> Tls:
        """How TLS is spoken."""
        return self._tls

    def fields(self, more: Mapping[str, str] | None = None) -> list[tuple[bytes, bytes]]:
        """Return the header fields of a request, credentials among them. Raises Fault "credentials"."""
        return self._all_headers(more)

    def forget(self, url: str) -> None:
        """Let go of the connections that lead where a ``kubernetes://`` URL leads, which will not be asked again soon.

        They are closed when the next one is opened, or with the client.
        """
        self._forwards.forget(url)

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.retire()
        await self._forwards.aclose()

    @asynccontextmanager
    async def _exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> AsyncIterator[Response]:
        """One request and its redirects; yields the last answer."""
        for left in range(MAX_REDIRECTS, -1, -1):
            async with self._once(method, url, body, headers) as response:
                target = _redirection(method, url, response)
                if target is None or not left:
                    yield response
                    return
            url = target

    @asynccontextmanager
    async def _once(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> AsyncIterator[Response]:
        pool = await self._forwards.pool(url) if is_address(url) else await self._pool(url)
        with _faults(url):
            request = pool.http.build_request(
                method, wire_url(url), content=body, headers=self._all_headers(headers), extensions=pool.extensions
            )
        if body is not None:
            request.stream = Body(body)
        async with pool:
            raw = await self._sent(pool, request, url)
            response = Response(raw, url)
            try:
                yield response
            finally:
                await response._abandon()
                await raw.aclose()

    async def _sent(self, pool: Pool, request: httpx.Request, url: str) -> httpx.Response:
        """Send, and return the answer's head. Each kept connection that proves closed is gone, so this comes to an end."""
        while True:
            connected = False

            async def watch(event: str, _: object) -> None:
                nonlocal connected
                connected = connected or event.startswith("connection.connect")

            request.extensions["trace"] = watch
            try:
                with _faults(url, self._via):
                    return await pool.http.send(request, stream=True)
            except Fault as fault:
                if connected or fault.kind != "reset":
                    raise
                log.debug("%s; this was a kept connection, so it is tried by another", fault)

    def _all_headers(self, more: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
        headers = {**self._headers, **_lowered(more)}
        if "authorization" not in headers and self._authorization:
            headers["authorization"] = self._authorization()
        return [(name.encode(), value.encode()) for name, value in headers.items()]

    async def _pool(self, url: str) -> Pool:
        """The connections to use: new ones where a certificate file has changed since."""
        secure = url[:6].lower() == "https:"
        known = self._pools.get(secure)
        stamp = files_stamp(self._tls) if secure else ()
        if known is not None and known.stamp == stamp:
            return known
        try:
            context = client_context(self._tls, stamp, safe_url(url)) if secure else False
        except Fault as fault:
            if known is None:
                raise
            log.warning("%s; the certificates read before stay in use", fault)
            known.stamp = stamp
            return known
        http = httpx.AsyncClient(
            verify=context, proxy=self._proxy, trust_env=False, timeout=self._timeout, limits=self._limits, headers={}
        )
        name = self._tls.server_name
        pool = self._pools[secure] = Pool(http, stamp, {"sni_hostname": name} if secure and name else {})
        if known is not None:
            await known.retire()
        return pool


def _lowered(headers: Mapping[str, str | Secret] | Mapping[str, str] | None) -> dict[str, str]:
    """Headers with names in lower case, so that one given twice in different case replaces the other."""
    return {
        name.lower(): value if isinstance(value, str) else value.get_secret_value()
        for name, value in (headers or {}).items()
    }


def _redirection(method: str, url: str, response: Response) -> str | None:
    """Where a redirect leads that may be followed, else None."""
    followed = (301, 302, 303, 307, 308) if method == "GET" else (307, 308)
    location = response.headers.get("location")
    if response.status not in followed or not location:
        return None
    try:
        old = httpx.URL(wire_url(url))
        new = old.join(location)
    except httpx.InvalidURL:
        return None
    if is_address(url):
        here = (new.scheme, new.host, new.port) == (old.scheme, old.host, old.port)
        return split_address(url)[0].url + new.raw_path.decode() if here else None
    same_origin = (new.scheme, new.host, new.port) == (old.scheme, old.host, old.port)
    upgraded = (old.scheme, new.scheme) == ("http", "https") and new.host == old.host
    return str(new) if same_origin or upgraded else None


@contextmanager
def _faults(url: str, via: str = "") -> Iterator[None]:
    """Map what httpx raises, once, at the edge."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
        fault = explain(error, url, via)
    else:
        return
    # Without the cause: httpx quotes illegal header values, which may be secrets.
    raise fault from None


@contextmanager
def _ignored_faults() -> Iterator[None]:
    """For reading on only to be rid of the rest: how that ends does not matter."""
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError):
        log.debug("the rest of an abandoned answer could not be read")
