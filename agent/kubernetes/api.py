"""The API server: one request, one page of a list, one watch; every refusal with what would lift it.

Strategy. It speaks through the client that all HTTP of this agent goes through, so limits, TLS, proxies and the words of
faults are the same. Credentials are shown per request; a 401 makes them be forgotten and tried anew once. The access is
read again when a file that it came from changes. Source: Kubernetes API concepts (lists in pieces, watches, bookmarks),
apimachinery, pkg/apis/meta/v1 (Status, WatchEvent).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import trio

from agent.http import Client, Response, deadline
from agent.http_fault import Fault, shorten
from agent.kubernetes.access import Access, Pass, find_access
from agent.settings import show_size

TIMEOUT = 30.0  # seconds that an answer may take, watches apart
MAX_BODY = 64 << 20  # bytes of the largest answer, inflated
MAX_EVENT = 16 << 20  # bytes of the largest event of a watch; etcd takes objects of 1.5 MiB
PAGE = 250  # objects of a list that are asked for at once: some MB of JSON
MAX_STATUS = 64 << 10  # bytes of a refusal that are looked at
_AT_ONCE = 50  # objects that are taken before others may run
_ENDLESS = 1 << 62

Object = dict[str, Any]
Params = Iterable[tuple[str, str]]


class ApiFault(Fault):
    """The API server refused. ``status`` is that of HTTP, or of an event; ``after`` the seconds it asks to wait."""

    def __init__(self, status: int, message: str, after: float = 0.0):
        super().__init__("credentials" if status in (401, 403) else "protocol", message)
        self.status = status
        self.after = after


@dataclass(frozen=True, slots=True)
class ApiResource:
    """A collection of objects, or one of them; ``namespace`` "" means all of them, or that it has none.

    ``verbs``: what a Role must allow for our use of it.
    """

    plural: str
    namespace: str = ""
    name: str = ""
    sub: str = ""
    group: str = "api/v1"
    verbs: tuple[str, ...] = ("get", "list", "watch")

    @property
    def path(self) -> str:
        """Its path below the server."""
        parts = [self.group, *(["namespaces", self.namespace] if self.namespace else []), self.plural]
        parts += [part for part in (self.name, self.sub) if part]
        return "/" + "/".join(quote(part, safe="/") for part in parts)

    def __str__(self) -> str:
        place = f" in namespace {self.namespace}" if self.namespace else ""
        return (f"{self.plural} {self.name}" if self.name else self.plural) + place

    @property
    def cure(self) -> str:
        """What must be allowed for it."""
        what = f"{self.plural}/{self.sub}" if self.sub else self.plural
        group = "" if self.group == "api/v1" else f" of {self.group.split('/')[1]}"
        role = f"a Role in namespace {self.namespace}" if self.namespace else "a ClusterRole"
        return f"bind {role} that allows {', '.join(self.verbs)} on {what}{group} to it (docs/kubernetes.md)"


class Api:
    """The API server of one cluster, found at the first request. Close it with ``aclose``."""

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        find: Callable[[str | None, str | None], Access] = find_access,
    ):
        self._find: Callable[[], Access] = lambda: find(kubeconfig, context)
        self._access: Access | None = None
        self._client: Client | None = None
        self._certificate: object = None  # of the client that is in use

    async def get(self, resource: ApiResource, params: Params = (), doing: str = "read") -> Object:
        """Return one object, or one page of a list. Raises Fault; ApiFault where the server refuses."""
        with deadline(TIMEOUT, self.server + resource.path):
            async with self.open(resource, doing, params) as response:
                body = await response.read(MAX_BODY)
        return _object(body, response.url)

    async def list_all(
        self, resource: ApiResource, params: Mapping[str, str], take: Callable[[Object], None], page: int = PAGE
    ) -> str:
        """Hand every object of a list to ``take``; return the list's resource version. Raises Fault.

        A list that changed too much between two pages (410) must be begun anew, as one page: ``page`` 0.
        """
        token = ""
        while True:
            piece = {"limit": str(page)} if page else {}
            if token:
                piece["continue"] = token
            answer = await self.get(resource, [*params.items(), *piece.items()], "list")
            items, metadata = answer.get("items"), answer.get("metadata")
            if not isinstance(items, list | None) or not isinstance(metadata, dict):
                raise Fault(
                    "protocol", f"cannot read the list of {resource} from {self.server}: it is no list of objects"
                )
            for number, item in enumerate(items or ()):
                take(item if isinstance(item, dict) else {})
                if number % _AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            token = metadata.get("continue") or ""
            if not isinstance(token, str) or not token:
                return str(metadata.get("resourceVersion") or "")

    async def watch(self, resource: ApiResource, params: Mapping[str, str]) -> AsyncGenerator[list[Object], None]:
        """Yield the events of a watch as they come, those that came together in one list; ends when the server ends it.

        An empty list comes first, once the server has agreed: until something happens it says nothing more.
        Raises Fault. Close it (``contextlib.aclosing``) where it is left before its end.
        """
        async with self.open(resource, "watch", [*params.items(), ("watch", "true")]) as response:
            yield []
            rest = b""
            async for chunk in response.chunks(_ENDLESS):
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                if len(rest) > MAX_EVENT:
                    raise Fault(
                        "too_large", f"cannot take an event of {response.url}: it is larger than {show_size(MAX_EVENT)}"
                    )
                events = [_object(line, response.url) for line in lines if line.strip()]
                if events:
                    yield events

    @asynccontextmanager
    async def open(
        self, resource: ApiResource, doing: str, params: Params = (), headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Response]:
        """Ask for a resource; yields the answer where it is one of success, else raises ApiFault."""
        for again in (True, False):
            access = self._found()
            shown = await access.credentials()
            own = {"authorization": shown.authorization} if shown.authorization else {}
            own["accept"] = "application/json"
            client = await self._client_for(access, shown)
            async with client.get(access.server + resource.path, params, {**own, **(headers or {})}) as response:
                if response.status == 401 and again and access.credentials.refused():
                    continue
                if response.status not in (101, 200):
                    raise await self._refusal(response, resource, doing, access)
                yield response
                return

    @property
    def server(self) -> str:
        """The URL of the API server; "the API server" before it is known."""
        return self._access.server if self._access else "the API server"

    @property
    def namespace(self) -> str:
        """The namespace that the context, or the service account, is at home in. Raises Fault where there is no access."""
        return self._found().namespace

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _found(self) -> Access:
        if self._access is None or self._access.outdated():
            self._access = self._find()
        return self._access

    async def _client_for(self, access: Access, shown: Pass) -> Client:
        """The client with this certificate: another one when the access or the certificate is another."""
        certificate = access, shown.certificate
        if self._client is None or self._certificate != certificate:
            await self.aclose()
            tls = access.tls
            if shown.certificate is not None:
                tls = tls.model_copy(update={"cert_file": shown.certificate.path, "key_file": None})
            self._client, self._certificate = Client(tls=tls, proxy=access.proxy), certificate
        return self._client

    async def _refusal(self, response: Response, resource: ApiResource, doing: str, access: Access) -> ApiFault:
        status = response.status
        said = await _message(response)
        why = f"the API server {access.server} answered {status}" + (f", {said!r}" if said else "")
        if status == 403:
            cure = f"we are there by {access.told_by}; {resource.cure}"
        elif status == 401:
            cure = f"the credentials are those of {access.told_by}; renew them"
        elif status == 404:
            cure = "check the namespace and the name"
        else:
            cure = "see the log of the API server" if status >= 500 else "check the options"
        return ApiFault(
            status, f"cannot {doing} {resource}: {why}; {cure}", _seconds(response.headers.get("retry-after"))
        )


def event_fault(event: Object, resource: ApiResource) -> ApiFault:
    """Return what an event of type ERROR says."""
    status = event.get("object")
    code, message = (status.get("code"), status.get("message")) if isinstance(status, dict) else (None, None)
    number = code if isinstance(code, int) else 500
    said = shorten(str(message or "nothing"))
    return ApiFault(
        number, f"cannot go on watching {resource}: the API server said {number}, {said!r}; it is begun anew"
    )


def _object(body: bytes, where: str) -> Object:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Fault(
            "protocol", f"cannot read the answer of {where}: it is no JSON object; check that this is an API server"
        )
    return value


async def _message(response: Response) -> str:
    """The message of a Status, or how the body begins; "" where it cannot be read."""
    body = b""
    try:
        async for chunk in response.chunks(MAX_STATUS):
            body += chunk
        status = json.loads(body)
        return shorten(str(status["message"]))
    except Fault:
        return ""
    except (ValueError, LookupError, TypeError, RecursionError):
        return shorten(body.decode(errors="replace"))


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isascii() and text.isdecimal() else 0.0


__all__ = ["Api", "ApiFault", "ApiResource", "Object", "event_fault"]
