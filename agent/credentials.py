"""Authorization headers from settings; secrets in files are read again when the files change (tokens rotate)."""

from __future__ import annotations

import base64
from collections.abc import Callable

from agent.http_fault import Fault
from agent.settings import BasicAuth, Secret
from agent.tls import file_stamp, reason


class _TextFile:
    """A secret in a file, read again when the file changes (tokens rotate)."""

    def __init__(self, path: str, option: str):
        self._path = path
        self._option = option
        self._stamp: tuple[int, int, int] | None = None
        self._text = ""

    def __call__(self) -> str:
        try:
            stamp = file_stamp(self._path)
            if stamp != self._stamp:
                with open(self._path, encoding="utf-8") as file:
                    self._text = file.read().strip()
                self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else reason(error)
            raise Fault(
                "credentials",
                f"cannot read `{self._option}` {self._path}: {why}; check that the file exists and may be read",
            ) from None
        return self._text


def authorization(
    basic_auth: BasicAuth | None, bearer_token: Secret | None, bearer_token_file: str | None
) -> Callable[[], str] | None:
    """Return what makes the Authorization header at each request, or None; it raises Fault "credentials"."""
    if basic_auth is not None:
        user, password = (
            basic_auth.username,
            read_secret(basic_auth.password, basic_auth.password_file, "password_file"),
        )
        return lambda: "Basic " + base64.b64encode(f"{user}:{password()}".encode()).decode()
    if bearer_token is not None or bearer_token_file is not None:
        token = read_secret(bearer_token, bearer_token_file, "bearer_token_file")
        return lambda: "Bearer " + token()
    return None


def read_secret(value: Secret | None, path: str | None, option: str) -> Callable[[], str]:
    """Return what gives the secret, of the file or of the option; it raises Fault "credentials" for an unreadable file."""
    if path is not None:
        return _TextFile(path, option)
    return value.get_secret_value if value is not None else str
