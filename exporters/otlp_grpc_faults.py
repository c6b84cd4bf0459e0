"""What grpcio says where no connection comes about, in words that say what to try. Sans-IO.

Its words are those of grpc-core and BoringSSL: "failed to connect to all addresses; last error: UNKNOWN:
ipv4:127.0.0.1:4317: Tls handshake failed (...): ...:CERTIFICATE_VERIFY_FAILED: certificate has expired: OK".
"""

from __future__ import annotations

import re

from ebbtide import certificate_cure

_PROLOGUE = re.compile(r"failed to connect to all addresses; last error: (?:[A-Z_]+: )?(?:(?:ipv[46]|unix|dns)\S*: )?")
_REFUSED_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED: (?P<why>[^:]+)")

_CLIENT_CERTIFICATE = "set `tls.cert_file` and `tls.key_file` to a pair that the server trusts"
_TLS_ALONE = "see the server's log; it may ask for a client certificate (`tls.cert_file`), or speak no TLS there"
_PLAIN_ALONE = "see the server's log; where it speaks TLS there, use https://"

# What is found in grpcio's words -> why, and what to try; the first that is found.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        "Hostname Verification Check failed",
        "the server's certificate is not valid for this host",
        "set `tls.server_name` to a name in it, or correct the host in `endpoint`",
    ),
    (
        "WRONG_VERSION_NUMBER|HTTP_REQUEST|PACKET_LENGTH",
        "the server does not speak TLS there",
        "use http://, or the port that speaks TLS",
    ),
    (
        "PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL",
        "the server and this agent have no version of TLS in common",
        "let the server speak TLS 1.2 or newer",
    ),
    (
        "ALERT_\\w*CERTIFICATE|HANDSHAKE_FAILURE|ALERT_UNKNOWN_CA|ALERT_ACCESS_DENIED|TSI_DATA_CORRUPTED",
        "the server asks for a client certificate or refuses this one",
        _CLIENT_CERTIFICATE,
    ),
    (
        "http1.x server|Expected SETTINGS frame",
        "the server speaks HTTP/1.1 there",
        'use the port for gRPC (4317 by default), or `protocol` = "http/protobuf"',
    ),
    (
        "missing selected ALPN",
        "the server does not speak HTTP/2 over TLS there",
        'use the port for gRPC, or `protocol` = "http/protobuf"',
    ),
    ("Connection refused", "connection refused", "check that the server runs and that the port is right"),
    (
        "errors resolving|address lookup failed|DNS resolution failed",
        "its name cannot be resolved",
        "check the host name, and the DNS this process uses",
    ),
    (
        "No route to host|unreachable|timed out|handshake timeout",
        "the host cannot be reached",
        "check the address, routes and firewalls",
    ),
    ("HTTP proxy returned|proxy", "the proxy refused", "check HTTPS_PROXY and NO_PROXY"),
)


def connection_fault(details: str, secure: bool) -> tuple[str, str] | None:
    """Why no connection came about or why it ended, and what to try; None where these words are the server's own."""
    certificate = _REFUSED_CERTIFICATE.search(details)
    if certificate:
        why = certificate["why"].strip()
        return f"the server's certificate is not accepted ({why})", certificate_cure(why)
    for words, why, cure in _KNOWN:
        if re.search(words, details) and _is_ours(details):
            return why, cure
    if _is_ours(details) or details in ("Socket closed", "Stream removed"):
        why = _PROLOGUE.sub("", details)
        return f'"{why}"', _TLS_ALONE if secure else _PLAIN_ALONE
    return None


def _is_ours(details: str) -> bool:
    return bool(_PROLOGUE.match(details)) or details.startswith(
        ("errors resolving", "DNS resolution failed", "recvmsg:")
    )
