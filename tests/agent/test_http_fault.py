"""From foreign exceptions to sentences."""

from __future__ import annotations

import errno
import socket
import ssl

import httpx
import pytest

from agent.http_fault import MAX_REASON, explain, shorten

URL = "https://user:s3cret@host:9090/federate?token=s3cret"


def nested(reason: BaseException) -> httpx.ConnectError:
    """As httpx and httpcore raise it: the reason is three levels down, the message empty."""
    broken = OSError("all attempts failed")
    broken.__cause__ = ExceptionGroup("all attempts failed", [reason]) if isinstance(reason, Exception) else reason
    outer = httpx.ConnectError("")
    outer.__cause__ = Exception(broken)  # httpcore carries the cause as its argument
    return outer


def ssl_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        (ConnectionRefusedError(), "refused", "connection refused; check that the server runs"),
        (ConnectionResetError(), "reset", "reset the connection"),
        (BrokenPipeError(), "reset", "reset the connection"),
        (socket.gaierror(-2, "Name or service not known"), "dns", "cannot be resolved (Name or service not known)"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable", "No route to host"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "unreachable",
            "may open no more files and connections (Too many open files); raise",
        ),
        (ssl_error("WRONG_VERSION_NUMBER"), "tls", "does not speak TLS there"),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "tls", "asks for a client certificate"),
        (ssl_error("UNEXPECTED_EOF_WHILE_READING"), "reset", "in the middle of TLS"),
        (ssl_error("UNSUPPORTED_PROTOCOL"), "tls", "no version of TLS in common"),
        (ssl_error("BAD_SIGNATURE"), "tls", "TLS failed (BAD_SIGNATURE)"),
        (ssl_error("TLSV1_ALERT_UNKNOWN_CA"), "tls", "refuses this one (TLSV1_ALERT_UNKNOWN_CA)"),
    ],
)
def test_reasons_at_the_bottom(reason: Exception, kind: str, words: str):
    fault = explain(nested(reason), URL)
    assert (fault.kind, words in str(fault)) == (kind, True), fault
    assert "https://host:9090/federate" in str(fault)
    assert "s3cret" not in str(fault)
    assert "\n" not in str(fault)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectTimeout(""), "timeout"),
        (httpx.ReadTimeout(""), "timeout"),
        (httpx.RemoteProtocolError("Server disconnected without sending a response."), "reset"),
        (httpx.RemoteProtocolError("peer closed connection (incomplete chunked read)"), "short"),
        (httpx.RemoteProtocolError("illegal status line: bytearray(b'x')"), "protocol"),
        (httpx.LocalProtocolError("Illegal header value b's3cret'"), "protocol"),
        (httpx.UnsupportedProtocol("s3cret"), "protocol"),
        (httpx.ProxyError("407 Proxy Authentication Required"), "unreachable"),
        (httpx.ReadError(""), "reset"),
        (httpx.DecodingError("odd"), "protocol"),
    ],
)
def test_what_the_client_says_itself(error: httpx.HTTPError, kind: str):
    fault = explain(error, URL)
    assert fault.kind == kind
    assert str(fault).startswith("cannot ")
    assert "s3cret" not in str(fault)


@pytest.mark.parametrize(
    ("text", "short"), [("a\r\nb\x1b[0m", "a b [0m"), ("x" * 999, "x" * (MAX_REASON - 1) + "…"), ("", "")]
)
def test_shorten(text: str, short: str):
    assert shorten(text) == short
