"""The options of the ``remote_write`` receiver, and who may write by them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Literal

from pydantic import field_validator

from ebbtide import (
    BasicAuth,
    PositiveDuration,
    PositiveSize,
    ServerTls,
    Settings,
    Token,
    option,
    parse_address,
    read_secret,
)
from receivers.polling import MetricType


class RemoteWriteSettings(Settings):
    """Options of the `remote_write` receiver."""

    listen: str = option("127.0.0.1:9201", "Address to listen at; a host such as 0.0.0.0 opens it to others.")
    path: str = option("/api/v1/write", "Path at which requests are taken.")
    basic_auth: BasicAuth | None = option(None, "User name and password that clients must send.")
    bearer_token: Token | None = option(None, "Bearer token that clients must send.")
    bearer_token_file: str | None = option(None, "File that holds the bearer token; read again when it changes.")
    tls: ServerTls = option(ServerTls(), "TLS to listen with.")
    max_body: PositiveSize = option("64MiB", "Largest request, inflated; a larger one is refused.")
    max_connections: int = option(256, "Connections served at once; more are refused.", ge=1)
    max_requests: int = option(16, "Requests read at once; more wait, and are told to come again.", ge=1)
    timeout: PositiveDuration = option("30s", "How long a request's body may take to arrive.")
    wait: PositiveDuration = option(
        "5s", "How long a request waits for room in the queues before its client is told to come again, after as long."
    )
    patience: PositiveDuration = option(
        "10s", "How long the parts of a histogram may lie apart, and a new target waits for its `up`."
    )
    start_times: Literal["track", "none"] = option(
        "track", "Start times of cumulative streams: as sent and, where none are, tracked; or as sent alone."
    )
    types: dict[str, MetricType] = option(
        {}, "Types that the operator knows better, by metric; before all other rules."
    )

    @field_validator("listen")
    @classmethod
    def _an_address(cls, listen: str) -> str:
        try:
            address = parse_address(listen)
        except ValueError:
            address = None
        if address is None:
            raise ValueError('not an address; write one such as "127.0.0.1:9201" or "[::1]:9201"')
        return listen

    @field_validator("path")
    @classmethod
    def _a_path(cls, path: str) -> str:
        if not path.startswith("/") or "?" in path or "#" in path:
            raise ValueError("not a path; write one such as /api/v1/write")
        return path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen at."""
        address = parse_address(self.listen)
        assert address is not None  # checked above
        return address


class Doorkeeper:
    """Tells who may write. ``scheme`` is what is asked for, "" where anybody may; ``option`` the one that says so."""

    def __init__(self, options: RemoteWriteSettings):
        self.scheme = self.option = ""
        self._secret: Callable[[], bytes] = bytes
        if options.basic_auth is not None:
            user = options.basic_auth.username
            password = read_secret(options.basic_auth.password, options.basic_auth.password_file, "password_file")
            self.scheme, self.option = "Basic", "basic_auth"
            self._secret = lambda: base64.b64encode(f"{user}:{password()}".encode())
        elif options.bearer_token is not None or options.bearer_token_file is not None:
            token = read_secret(options.bearer_token, options.bearer_token_file, "bearer_token_file")
            self.scheme = "Bearer"
            self.option = "bearer_token" if options.bearer_token_file is None else "bearer_token_file"
            self._secret = lambda: token().encode()

    def check(self) -> None:
        """Look at the secret: a receiver that cannot read it would let nobody in. Raises Fault "credentials"."""
        self._secret()

    def lets_in(self, authorization: str) -> bool:
        """Tell whether this Authorization header is right, in a time that does not tell how much of it is.

        Raises Fault "credentials" where the file that holds the secret cannot be read.
        """
        if not self.scheme:
            return True
        scheme, _, given = authorization.partition(" ")
        secret = self._secret()
        same = hmac.compare_digest(given.strip().encode(errors="replace"), secret)
        return same and scheme.lower() == self.scheme.lower() and bool(secret)
