"""TLS as a client: contexts made from settings, shared while in use, made again when a file on disk changes."""

from __future__ import annotations

import os
import ssl
import weakref

import httpx

from agent.http_fault import Fault
from agent.settings import Tls

# Contexts in use, by settings and state of the files: making one takes 20 ms, and a thousand targets share one.
_known: weakref.WeakValueDictionary[tuple[object, ...], ssl.SSLContext] = weakref.WeakValueDictionary()


def client_context(tls: Tls, stamp: tuple[object, ...], where: str) -> ssl.SSLContext:
    """Return the context of these settings and this state of their files (``files_stamp``), shared.

    Raises Fault "tls" where a file cannot be loaded; ``where`` is the server, for its sentence.
    """
    key = (tls.ca_file, tls.cert_file, tls.key_file, tls.insecure_skip_verify, stamp)
    context = _known.get(key)
    if context is None:
        try:
            context = _known[key] = _make_context(tls)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            files = ", ".join(filter(None, (tls.ca_file, tls.cert_file, tls.key_file))) or "the system's authorities"
            raise Fault(
                "tls",
                f"cannot load the certificates for {where}: {reason(error)} ({files}); "
                "expected PEM files, readable, and a key that belongs to the certificate",
            ) from error
    return context


def _make_context(tls: Tls) -> ssl.SSLContext:
    paths = ssl.get_default_verify_paths()
    if tls.ca_file or paths.cafile or (paths.capath and os.listdir(paths.capath)):
        context = ssl.create_default_context(cafile=tls.ca_file)
    else:
        context = httpx.create_ssl_context()  # a bare container without the system's list: the one httpx carries
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file:
        # An encrypted key would make OpenSSL ask on the terminal: answer that there is no password.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted, which is not supported")


def files_stamp(tls: Tls) -> tuple[object, ...]:
    """Return what changes when a certificate file does."""
    paths = [path for path in (tls.ca_file, tls.cert_file, tls.key_file) if path]
    try:
        return tuple(file_stamp(path) for path in paths)
    except OSError:
        return (None,)  # differs from every good state; loading it will say what is wrong


def file_stamp(path: str) -> tuple[int, int, int]:
    """Return what changes when the file does, symbolic links followed; raise OSError."""
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


def reason(error: OSError | ValueError) -> str:
    """Return the reason alone: an OSError's own text would repeat the path."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
