"""``kubernetes://`` URLs: what they lead to inside a cluster, and the HTTP request that goes there.

Three forms: ``kubernetes://NAMESPACE/service/NAME:PORT``, ``kubernetes://NAMESPACE/pod/NAME:PORT`` and
``kubernetes://NAMESPACE/pods?selector=SELECTOR:PORT``, each with a path and a query behind. A port is a number or a name.
A selector holds no ``:``, so that the first one ends it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

SCHEME = "kubernetes://"

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"  # RFC 1123, as the API server has it for the names of objects
_URL = re.compile(
    rf"""(?P<namespace>{_LABEL})/
    (?:(?P<kind>service|pod)/(?P<name>{_LABEL}(?:\.{_LABEL})*) | pods\?selector=(?P<selector>[^:?\#&]+))
    :(?P<port>[0-9]+|[a-z0-9-]*[a-z][a-z0-9-]*)
    (?P<rest>[/?\#].*)?""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_SELECTOR = "/pods?selector="
_SHAPE = (
    "write kubernetes://NAMESPACE/service/NAME:PORT, kubernetes://NAMESPACE/pod/NAME:PORT or "
    "kubernetes://NAMESPACE/pods?selector=SELECTOR:PORT"
)

Kind = Literal["service", "pod", "pods"]


@dataclass(frozen=True, slots=True)
class Destination:
    """A port inside a cluster: of the pods of a service, of one pod, or of the pods that a label selector selects.

    ``name`` is empty where there is a ``selector``, and the other way round. ``port``: a number or a name, as written;
    of a service it is the service's own.
    """

    namespace: str
    kind: Kind
    name: str
    selector: str
    port: str

    @property
    def url(self) -> str:
        """The URL of it, without a path."""
        place = f"pods?selector={self.selector}" if self.kind == "pods" else f"{self.kind}/{self.name}"
        return f"{SCHEME}{self.namespace}/{place}:{self.port}"

    @property
    def instance(self) -> str:
        """Host and port in one, for labels: ``prometheus.linkerd-viz:9090``."""
        return f"{self.name}.{self.namespace}:{self.port}".removeprefix(".")

    @property
    def host(self) -> str:
        """What the Host header says: ``localhost``, as a client of kubectl's port-forward would have it."""
        return f"localhost:{self.port}" if self.port.isdecimal() else "localhost"


def split_address(url: str) -> tuple[Destination, str]:
    """Return where a ``kubernetes://`` URL leads, and its path with the query, which begins with ``/`` or is empty.

    Raises ValueError, whose text does not show the URL, where it is none.
    """
    match = _URL.fullmatch(url.removeprefix(SCHEME)) if is_address(url) else None
    if match is None:
        raise ValueError(f"not a URL of something in Kubernetes; {_SHAPE}")
    port = match["port"]
    if port.isdecimal() and not 0 < int(port) < 65536:
        raise ValueError(f"no port has this number; {_SHAPE}")
    kind: Kind = "pods" if match["selector"] else "pod" if match["kind"] == "pod" else "service"
    destination = Destination(match["namespace"], kind, match["name"] or "", unquote(match["selector"] or ""), port)
    rest = (match["rest"] or "").partition("#")[0]
    return destination, rest if rest.startswith("/") or not rest else f"/{rest}"


def is_address(url: str) -> bool:
    """Tell whether it begins as a ``kubernetes://`` URL does."""
    return url.startswith(SCHEME)


def shown_address(url: str) -> str:
    """Return a ``kubernetes://`` URL without its query and fragment: fit to be shown."""
    head, mark, rest = url.partition(_SELECTOR)
    return re.split(r"[?#]", head)[0] + mark + re.split(r"[?#]", rest)[0]


def wire_url(url: str) -> str:
    """Return the URL of the request at the far end of the forward; any other URL as it is."""
    if not is_address(url):
        return url
    destination, rest = split_address(url)
    return f"http://{destination.host}{rest or '/'}"


def with_query(url: str, query: str) -> str:
    """Append to a URL's query."""
    rest = url.partition(_SELECTOR)[2] or url if is_address(url) else url
    return f"{url}{'&' if '?' in rest else '?'}{query}" if query else url
