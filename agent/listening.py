"""Listening as a component: the address taken with a clear word where it cannot be, TLS with certificates that change."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence

import trio
from pydantic import model_validator

from agent.folded import FoldedLog
from agent.settings import OptionError, Settings, option
from agent.tls import file_stamp, reason

logger = logging.getLogger("ebbtide.listening")


class CannotListen(Exception):
    """An address cannot be had, or a certificate not be read: one sentence."""


class ServerTls(Settings):
    """TLS as a server."""

    cert_file: str | None = option(None, "PEM file of the server's certificate; TLS is spoken where it is set.")
    key_file: str | None = option(None, "PEM file of the certificate's key, where it is not in `cert_file`.")
    client_ca_file: str | None = option(
        None, "PEM file of the authorities that clients' certificates must come from; without it none is asked for."
    )

    @model_validator(mode="after")
    def _has_certificate(self) -> ServerTls:
        for name in ("key_file", "client_ca_file"):
            if getattr(self, name) is not None and self.cert_file is None:
                raise OptionError(f"{name} is set without cert_file; set both", name)
        return self


async def open_listeners(address: tuple[str, int], option: str) -> list[trio.SocketListener]:
    """Listen at a host and port. Raises CannotListen, which names the option that the address is from."""
    host, port = address
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise CannotListen(f"cannot listen at {where}: {reason(error)}; set `{option}` to a free address") from error


def share_listeners(listeners: Sequence[trio.SocketListener]) -> list[trio.SocketListener]:
    """Return listeners of the same sockets, which stay open when the others are closed."""
    return [trio.SocketListener(listener.socket.dup()) for listener in listeners]


def close_listeners(listeners: Sequence[trio.SocketListener]) -> None:
    """Close listeners at once."""
    for listener in listeners:
        listener.socket.close()


def port_of(listeners: Sequence[trio.SocketListener]) -> int:
    """Return the port of listeners, be it one that was chosen for them."""
    port: int = listeners[0].socket.getsockname()[1]
    return port


def server_context(tls: ServerTls) -> Callable[[], ssl.SSLContext] | None:
    """Return what gives the context for a new connection, None without TLS. Raises CannotListen for files that are wrong.

    Files are read again when they change; where they are wrong then, the former ones go on to serve, and it is said.
    """
    return None if tls.cert_file is None else _ServerContext(tls)


class _ServerContext:
    def __init__(self, tls: ServerTls):
        self._tls = tls
        self._log = FoldedLog(logger)
        try:
            self._stamp, self._context = self._files_stamp(), self._load()
        except (OSError, ValueError) as error:
            raise CannotListen(self._sentence(error)) from error

    def __call__(self) -> ssl.SSLContext:
        try:
            stamp = self._files_stamp()
            if stamp != self._stamp:
                self._context, self._stamp = self._load(), stamp
                self._log.forget("files")
        except (OSError, ValueError) as error:
            self._log(logging.WARNING, "files", "%s; the former ones go on to serve", self._sentence(error))
        return self._context

    def _files(self) -> list[str]:
        return [path for path in (self._tls.cert_file, self._tls.key_file, self._tls.client_ca_file) if path]

    def _files_stamp(self) -> tuple[object, ...]:
        return tuple(file_stamp(path) for path in self._files())

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._tls.cert_file or "", self._tls.key_file, password=_no_password)
        if self._tls.client_ca_file:
            context.load_verify_locations(self._tls.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _sentence(self, error: OSError | ValueError) -> str:
        return (
            f"cannot load the certificates to listen with: {reason(error)} ({', '.join(self._files())}); "
            "expected PEM files, readable, and a key that belongs to the certificate"
        )


def _no_password() -> str:
    raise ValueError("the key is encrypted, which is not supported")
