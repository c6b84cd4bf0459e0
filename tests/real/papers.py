"""Certificates of one authority, as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key


@dataclass(frozen=True)
class Pair:
    """A certificate and its key (PKCS #8, the one form that Java reads); ``both``: one file that holds the two."""

    cert: Path
    key: Path
    both: Path


class Papers:
    """An authority (``ca``), and what it issued: for a server on loopback, for one elsewhere, for a client."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._authority, self._folder = trustme.CA(), folder
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))
        self.server = self._issue("server", "127.0.0.1", "localhost")
        self.elsewhere = self._issue("elsewhere", "elsewhere.test")
        self.client = self._issue("client", "agent@shop.test")

    def _issue(self, name: str, *identities: str) -> Pair:
        issued = self._authority.issue_cert(*identities)
        pair = Pair(*(self._folder / f"{name}.{kind}" for kind in ("pem", "key", "both")))
        cert = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        private = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
        key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pair.cert.write_bytes(cert)
        pair.key.write_bytes(key)
        pair.both.write_bytes(key + cert)
        return pair
