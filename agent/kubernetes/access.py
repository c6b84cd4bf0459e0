"""Who we are to a cluster and where it is: from the service account of the pod we run in, or from a kubeconfig.

Strategy. An ``Access`` says all that a client needs; certificates in it are always files, because that is what OpenSSL
reads: those that a kubeconfig holds inline lie in anonymous memory under a path (``PemInMemory``), never on a disk. Tokens
are asked for at each request, so that one that rotates, expires or is refused is followed by its successor.

Which one is taken: the ``kubeconfig`` option; else the files of KUBECONFIG; else the service account; else
``~/.kube/config``. A ``context`` can only be one of a kubeconfig, so with it the service account is passed over.
Source: client-go, rest/config.go and tools/clientcmd.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.credentials import read_secret
from agent.http_fault import Fault
from agent.settings import Tls
from agent.tls import file_stamp

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its service account."""

Stamp = tuple[object, ...]


class PemInMemory:
    """PEM text that OpenSSL reads by its ``path``, and that is never written to a disk; gone when this is."""

    def __init__(self, data: bytes):
        descriptor = os.memfd_create("ebbtide", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        self.path = f"/proc/self/fd/{descriptor}"


@dataclass(frozen=True, slots=True)
class Pass:
    """What is shown to the API server: the value of the Authorization header, "" for none, and a client certificate."""

    authorization: str = ""
    certificate: PemInMemory | None = None  # with its key behind it


class Credentials(Protocol):
    """Gives the pass for a request."""

    async def __call__(self) -> Pass:
        """Return it. Raises Fault "credentials"."""

    def refused(self) -> bool:
        """The API server answered 401: tell whether another try may help, after forgetting what was held."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Credentials that are given once, or lie in a file that is read again when it changes."""

    authorization: Callable[[], str] | None = None

    async def __call__(self) -> Pass:
        """Return the pass as it is now."""
        return Pass(self.authorization() if self.authorization else "")

    def refused(self) -> bool:
        """There are no others."""
        return False


@dataclass(frozen=True, slots=True)
class Access:
    """The API server and how to speak to it. ``server`` has no slash at its end; ``told_by`` names the source.

    ``files``: what was read for it, with their stamps; ``kept``: what must live as long as this does.
    """

    server: str
    tls: Tls
    credentials: Credentials
    namespace: str
    told_by: str
    proxy: str | None = None
    files: Mapping[str, Stamp | None] = field(default_factory=dict)
    kept: tuple[object, ...] = ()

    def outdated(self) -> bool:
        """Tell whether a file that it was read from has changed."""
        return any(stamp_of(path) != stamp for path, stamp in self.files.items())


def stamp_of(path: str | Path) -> Stamp | None:
    """Return what changes when the file does; None where there is none."""
    try:
        return file_stamp(str(path))
    except OSError:
        return None


def find_access(
    kubeconfig: str | None = None,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
    account: Path = ACCOUNT,
) -> Access:
    """Return the access that these options and this environment lead to. Raises Fault "credentials" where none does."""
    from agent.kubernetes.kubeconfig import read_kubeconfig  # it needs a library that not everybody has

    if kubeconfig:
        return read_kubeconfig([Path(kubeconfig).expanduser()], context, "`kubeconfig`")
    listed = [Path(name).expanduser() for name in environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    present = [path for path in listed if path.exists()]  # as kubectl: of a list, some may be missing
    if listed and (present or context):
        return read_kubeconfig(present or listed, context, "KUBECONFIG")
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    if host and not context and (account / "token").exists():
        return _of_account(host, environ.get("KUBERNETES_SERVICE_PORT") or "443", account)
    own = Path(environ.get("HOME") or "/") / ".kube" / "config"
    if own.exists() or context:
        return read_kubeconfig([own], context, "~/.kube/config")
    raise Fault(
        "credentials",
        "cannot find a Kubernetes cluster: this does not run in a pod with a service account, and neither a file of "
        "KUBECONFIG nor ~/.kube/config is there; set `kubeconfig`, or let the pod mount its service account's token",
    )


def _of_account(host: str, port: str, account: Path) -> Access:
    """The access of the pod's service account; its token is short-lived, and replaced on the disk in time."""
    token = read_secret(None, str(account / "token"), "the service account's token")
    authority = account / "ca.crt"
    try:
        namespace = (account / "namespace").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        namespace = ""
    return Access(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        tls=Tls(ca_file=str(authority) if authority.exists() else None),
        credentials=Standing(lambda: f"Bearer {token()}"),
        namespace=namespace or "default",
        told_by="the service account of this pod",
    )
