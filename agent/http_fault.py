"""What can go wrong between two sockets, as one exception with one sentence: what, where, why, what to try.

Strategy. The reason of a failure lies at the bottom of the chain of causes (httpx.ConnectError, httpcore.ConnectError,
trio.BrokenResourceError, SSLCertVerificationError): walk from the bottom up and take the first that is known. Sentences
never show user names, passwords, queries or headers.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import httpx

from agent.kubernetes.address import is_address, shown_address

FaultKind = Literal[
    "refused", "dns", "unreachable", "tls", "timeout", "reset", "protocol", "too_large", "encoding", "short",
    "credentials",
]  # fmt: skip

_BEFORE = ("refused", "dns", "unreachable", "tls", "timeout")  # kinds met before a request is under way

MAX_REASON = 200  # characters of a foreign reason that are shown


class Fault(Exception):
    """An exchange that failed. ``kind`` is for code, ``str(fault)`` the sentence for people."""

    def __init__(self, kind: FaultKind, message: str):
        super().__init__(message)
        self.kind: FaultKind = kind


def safe_url(url: str) -> str:
    """The URL without user, password, query and fragment: fit to be shown."""
    if is_address(url):
        return shown_address(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an unreadable URL"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def explain(error: BaseException, url: str, via: str = "") -> Fault:
    """Turn what the HTTP client raised about ``url`` into a Fault. ``via``: words for the way there, such as a proxy."""
    where = safe_url(url) + via
    for cause in reversed(list(_causes(error))):
        found = _known(cause, url)
        if found:
            kind, why, cure = found
            verb = "reach" if kind in _BEFORE else "finish the exchange with"
            return Fault(kind, f"cannot {verb} {where}: {why}; {cure}")
    why = shorten(str(error)) or type(error).__name__
    return Fault("protocol", f"cannot talk to {where}: {why}; check that an HTTP server listens there")


def shorten(text: str) -> str:
    """A foreign reason on one line, of bounded length, without what would break a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_REASON]).split())
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 1] + "…"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes, and the causes inside groups (one per address that was tried).

    httpcore takes the cause off what it raises, but carries it as its argument.
    """
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        if isinstance(cause, BaseExceptionGroup):
            for part in cause.exceptions:
                yield from _causes(part)
        carried = cause.args[0] if cause.args else None
        cause = cause.__cause__ or (carried if isinstance(carried, BaseException) else None)


Finding = tuple[FaultKind, str, str]

_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EADDRNOTAVAIL, errno.ENETDOWN}
_NO_FILES = {errno.EMFILE, errno.ENFILE}


def _known(cause: BaseException, url: str) -> Finding | None:
    if isinstance(cause, ssl.SSLError):
        return _of_tls(cause)
    if isinstance(cause, OSError):
        return _of_socket(cause)
    if isinstance(cause, httpx.HTTPError | httpx.InvalidURL | UnicodeError):
        return _of_client(cause, url)
    return None


def _of_tls(cause: ssl.SSLError) -> Finding:
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message.rstrip(".")
        return "tls", f"the server's certificate is not accepted ({why})", certificate_cure(why)
    reason = cause.reason or shorten(str(cause))
    if reason in _NOT_TLS:
        return "tls", f"the server does not speak TLS there ({reason})", "use http://, or the port that speaks TLS"
    if "PROTOCOL" in reason:  # ours, or the alert of the server
        why = f"the server and this agent have no version of TLS in common ({reason})"
        return "tls", why, "let the server speak TLS 1.2 or newer"
    if any(word in reason for word in _CLIENT_CERTIFICATE):
        cure = "set `tls.cert_file` and `tls.key_file` to a pair that the server trusts"
        return "tls", f"the server asks for a client certificate or refuses this one ({reason})", cure
    if "EOF" in reason:
        return "reset", "the server closed the connection in the middle of TLS", "see the server's log, or try again"
    return "tls", f"TLS failed ({reason})", "check the certificates and the TLS versions of both sides"


def certificate_cure(why: str) -> str:
    """What to try when a server's certificate is refused for this reason, in OpenSSL's words."""
    text = why.lower()
    if "expired" in text or "not yet valid" in text:
        return "renew it on the server, and check the clocks of both sides"
    if "mismatch" in text or "not valid for" in text:
        return "set `tls.server_name` to a name in it, or correct the host in the URL"
    return "set `tls.ca_file` to the authority that signed it"


_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_CLIENT_CERTIFICATE = ("CERTIFICATE", "HANDSHAKE_FAILURE", "UNKNOWN_CA", "ACCESS_DENIED")


def _of_socket(cause: OSError) -> Finding | None:
    if isinstance(cause, socket.gaierror):
        why = f"its name cannot be resolved ({cause.strerror or cause})"
        return "dns", why, "check the host name, and the DNS this process uses"
    if isinstance(cause, ConnectionRefusedError):
        return "refused", "connection refused", "check that the server runs and that the port is right"
    if isinstance(cause, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return "reset", "the server reset the connection", "see the server's log; a policy or a proxy may do this"
    if cause.errno in _NO_FILES:
        why = f"this process may open no more files and connections ({cause.strerror})"
        return "unreachable", why, "raise its limit (ulimit -n, LimitNOFILE), or poll fewer targets"
    if cause.errno in _UNREACHABLE:
        why = f"the host cannot be reached ({cause.strerror})"
        return "unreachable", why, "check the address, routes and firewalls"
    return None


def _of_client(cause: BaseException, url: str) -> Finding | None:
    text = str(cause)
    if isinstance(cause, httpx.ConnectTimeout):
        return "timeout", "connecting took too long", "check the address, and firewalls that drop packets"
    if isinstance(cause, httpx.TimeoutException):
        return "timeout", "the server is too slow", "raise `timeout`, or look why the server is slow"
    if isinstance(cause, httpx.RemoteProtocolError):
        if "without sending complete message body" in text or "incomplete chunked read" in text:
            why = f"the answer ended early ({shorten(text)})"
            return "short", why, "the server or a proxy between broke off; see its log"
        if "disconnected" in text:
            return "reset", "the server closed the connection without an answer", f"see the server's log{_hint(url)}"
        return "protocol", *_not_http(text)
    if isinstance(cause, httpx.LocalProtocolError | UnicodeError):  # their text quotes header values
        return "protocol", "a header or the path holds illegal characters", "check `headers`, tokens and the URL"
    if isinstance(cause, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return "protocol", "the URL is not one of http:// or https://", "check the URL"
    if isinstance(cause, httpx.ProxyError):
        why = f"the proxy refused ({shorten(text)})"
        return "unreachable", why, "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if isinstance(cause, httpx.ReadError | httpx.WriteError | httpx.CloseError):
        return "reset", "the connection broke", f"see the server's log{_hint(url)}"
    return None


def _hint(url: str) -> str:
    if url[:6].lower() != "https:":
        return ""
    return " (one that asks for a client certificate does this: set `tls.cert_file`)"


def _not_http(text: str) -> tuple[str, str]:
    """Why and what to try, where the answer is not HTTP."""
    if "illegal request line" in text:  # h11's words for a first byte that no HTTP begins with: TLS, HTTP/2
        return (
            "the answer is not HTTP/1.1",
            "the server may speak TLS or gRPC there: use https://, or the port for HTTP",
        )
    return f"the answer is not HTTP ({shorten(text)})", "check that an HTTP server listens there"
