"""Contexts are shared while in use, and made anew when files change."""

from __future__ import annotations

import gc
import os
import ssl
from pathlib import Path

import pytest
import trustme

from agent.http_fault import Fault
from agent.settings import Tls
from agent.tls import client_context, files_stamp


def make(tls: Tls) -> ssl.SSLContext:
    return client_context(tls, files_stamp(tls), "https://there")


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def test_shared_by_equal_settings(ca_file: Path):
    tls = Tls(ca_file=str(ca_file))
    first = make(tls)
    assert make(Tls(ca_file=str(ca_file), server_name="other")) is first
    assert make(Tls(ca_file=str(ca_file), insecure_skip_verify=True)) is not first
    os.utime(ca_file, ns=(1, 1))
    assert make(tls) is not first


def test_verifies_unless_told_otherwise(ca_file: Path):
    context = make(Tls(ca_file=str(ca_file)))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert make(Tls(insecure_skip_verify=True)).verify_mode == ssl.CERT_NONE


def test_nothing_is_kept_that_nobody_uses(ca_file: Path):
    import weakref

    kept = weakref.ref(make(Tls(ca_file=str(ca_file))))
    gc.collect()
    assert kept() is None


def test_an_encrypted_key_is_refused_without_asking(tmp_path: Path, ca_file: Path):
    certificate = tmp_path / "cert.pem"
    key = tmp_path / "key.pem"
    trustme.CA().issue_cert("x").cert_chain_pems[0].write_to_path(str(certificate))
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(Fault) as caught:
        make(Tls(ca_file=str(ca_file), cert_file=str(certificate), key_file=str(key)))
    assert caught.value.kind == "tls"
