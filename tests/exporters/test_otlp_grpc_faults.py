"""grpcio's own words, as grpcio 1.85 says them, and what becomes of them."""

from __future__ import annotations

import pytest

from exporters.otlp_grpc_faults import connection_fault

ALL = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:4317: "
LOST = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:4317: "
TLS = "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"


@pytest.mark.parametrize(
    ("details", "why", "cure"),
    [
        (
            ALL + TLS + "CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK",
            "the server's certificate is not accepted (unable to get local issuer certificate)",
            "set `tls.ca_file`",
        ),
        (ALL + TLS + "CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "(certificate has expired)", "renew it"),
        (
            ALL + "Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.",
            "not valid for this host",
            "set `tls.server_name`",
        ),
        (
            ALL + TLS + "WRONG_VERSION_NUMBER: Invalid certificate verification context: OK",
            "does not speak TLS",
            "http://",
        ),
        (ALL + TLS + "TLSV1_ALERT_PROTOCOL_VERSION: Invalid ...: OK", "no version of TLS in common", "TLS 1.2"),
        (ALL + TLS + "SSLV3_ALERT_HANDSHAKE_FAILURE: OK", "asks for a client certificate", "`tls.cert_file`"),
        (ALL + TLS + "TLSV1_ALERT_UNKNOWN_CA: OK", "refuses this one", "`tls.cert_file`"),
        (LOST + "Unwrap failed (TSI_DATA_CORRUPTED)", "asks for a client certificate", "`tls.cert_file`"),
        (LOST + "Socket closed", '"Socket closed"', "`tls.cert_file`"),
        (ALL + "Cannot check peer: missing selected ALPN property.", "HTTP/2 over TLS", "http/protobuf"),
        (
            ALL.replace("UNKNOWN", "INTERNAL") + "Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame, got "
            "frame type 80) (Trying to connect an http1.x server (HTTP status 400))",
            "the server speaks HTTP/1.1 there",
            "4317",
        ),
        (ALL + "Failed to connect to remote host: Connection refused", "connection refused", "check that the server runs"),
        (
            "errors resolving no-such.invalid:4317: [field:hostname lookup error:address lookup failed for "
            "no-such.invalid:4317: Domain name not found]",
            "its name cannot be resolved",
            "DNS",
        ),
        (ALL + "Something new", '"Something new"', "see the server's log"),
    ],
)  # fmt: skip
def test_words(details: str, why: str, cure: str):
    fault = connection_fault(details, secure=True)
    assert fault is not None
    assert why in fault[0]
    assert cure in fault[1]


def test_a_connection_that_ends_at_once_may_be_one_for_tls():
    for details in (LOST + "Socket closed", "Socket closed", "recvmsg:Connection reset by peer (104)"):
        fault = connection_fault(details, secure=False)
        assert fault
        assert "https://" in fault[1]


@pytest.mark.parametrize(
    "details", ["", "try later", "the upstream says Connection refused", "proxy: no healthy upstream"]
)
def test_the_servers_own_words_are_left_alone(details: str):
    assert connection_fault(details, secure=False) is None
