"""The API server of the demo: recorded objects, by list and watch, and port-forwards to where their ports really are.

Strategy. ``Cluster`` is the store: objects with resource versions, and the history of their changes, which can be made to
forget. ``ClusterApi`` turns requests into answers. It is strict where a real API server is lenient or silent: what a
client sends must be right to the letter, and what was not is also noted in ``complaints``. Sockets are in
``cluster_server``. Followed: Kubernetes 1.30, the parts that a client for discovery and port-forward meets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import trio

Object = dict[str, Any]

VERSION = {"major": "1", "minor": "30", "gitVersion": "v1.30.0-ebbtide-demo", "platform": "linux/amd64"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects that the server knows."""

    kind: str
    plural: str
    group: str = "v1"
    namespaced: bool = True

    @property
    def base(self) -> str:
        """The path that its collections lie below."""
        return "/api/v1" if self.group == "v1" else f"/apis/{self.group}"


KINDS = (
    Kind("Pod", "pods"),
    Kind("Service", "services"),
    Kind("Node", "nodes", namespaced=False),
    Kind("Namespace", "namespaces", namespaced=False),
    Kind("Deployment", "deployments", "apps/v1"),
    Kind("ReplicaSet", "replicasets", "apps/v1"),
    Kind("Job", "jobs", "batch/v1"),
    Kind("CronJob", "cronjobs", "batch/v1"),
)
_BY_KIND = {kind.kind: kind for kind in KINDS}

MOST_CHANGES = 10_000
"""Changes that are remembered; a watch from before them is answered 410."""

Key = tuple[str, str, str]  # plural, namespace, name


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the history: the object as it became, or as it was last."""

    version: int
    type: str
    key: Key
    item: Object
    before: Object | None


class Cluster:
    """The objects, and what happened to them."""

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self.version = 1000
        self.oldest = 1000  # versions before it are forgotten: 410
        self.items: dict[Key, Object] = {}
        self.history: list[Change] = []
        self.forwards: dict[tuple[str, str, int], tuple[str, int]] = {}  # (namespace, pod, port) -> host, port
        self.happened = trio.Event()
        for item in objects:
            self.put(item)

    def put(self, item: Object) -> Object:
        """Create an object, or replace the one of its name; returns it as stored."""
        stored, key = deepcopy(item), self._key(item)
        before = self.items.get(key)
        stored.setdefault("apiVersion", _BY_KIND[item["kind"]].group)
        metadata = stored["metadata"]
        metadata["resourceVersion"] = str(self.version + 1)
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self.items[key] = stored
        self._note("MODIFIED" if before else "ADDED", key, stored, before)
        return stored

    def delete(self, item: Object) -> None:
        """Delete the object of this kind, namespace and name."""
        key = self._key(item)
        before = self.items.pop(key)
        last = deepcopy(before)
        last["metadata"]["resourceVersion"] = str(self.version + 1)
        self._note("DELETED", key, last, before)

    def forget(self) -> None:
        """Forget the history, as etcd's compaction does: older versions are answered 410."""
        self.version += 1
        self.oldest = self.version
        self.history.clear()
        self._wake()

    def of(self, kind: Kind, namespace: str) -> list[Object]:
        """All objects of a kind, of one namespace or (``""``) of all, in order of their keys."""
        keys = [key for key in self.items if key[0] == kind.plural and namespace in ("", key[1])]
        return [self.items[key] for key in sorted(keys)]

    def _key(self, item: Object) -> Key:
        kind, metadata = _BY_KIND[item["kind"]], item["metadata"]
        return kind.plural, metadata.get("namespace", "default") if kind.namespaced else "", metadata["name"]

    def _note(self, type: str, key: Key, item: Object, before: Object | None) -> None:
        self.version += 1
        self.history.append(Change(self.version, type, key, item, before))
        if len(self.history) > MOST_CHANGES:
            self.oldest = self.history[MOST_CHANGES // 2].version
            del self.history[: MOST_CHANGES // 2 + 1]
        self._wake()

    def _wake(self) -> None:
        happened, self.happened = self.happened, trio.Event()
        happened.set()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, taken apart. ``query``: every parameter, once."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    user: str = ""


class RefusedError(Exception):
    """A request that is answered with a Status."""

    def __init__(self, code: int, reason: str, message: str, headers: tuple[tuple[str, str], ...] = ()):
        super().__init__(message)
        self.code, self.reason, self.headers = code, reason, headers

    @property
    def status(self) -> Object:
        """The Status."""
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": str(self), "reason": self.reason, "code": self.code,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Watching:
    """A watch to be served: which objects, from where on."""

    kind: Kind
    namespace: str
    wanted: Callable[[Object], bool]
    version: int
    bookmarks: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A port-forward to be served: one port of one pod."""

    namespace: str
    pod: str
    uid: str
    port: int
    address: tuple[str, int] | None


@dataclass(slots=True)
class ClusterApi:
    """Answers requests on a cluster.

    ``tokens``: bearer tokens that are let in, by user; none asks for none. ``allowed``: what RBAC says to (user, verb,
    "pods" or "pods/portforward", namespace). ``gone_by_event``: a version too old is an ERROR event, not a status.
    """

    cluster: Cluster
    tokens: dict[str, str] = field(default_factory=dict)
    allowed: Callable[[str, str, str, str], bool] = lambda user, verb, resource, namespace: True
    gone_by_event: bool = False
    bookmark_seconds: float = 60.0
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, query: list[tuple[str, str]], headers: Mapping[str, str]) -> object:
        """Return an object to be sent as JSON, a Watching or a Forwarding. Raises RefusedError."""
        names = [name for name, _ in query]
        if len(set(names)) != len(names):
            raise self.complain(f"a parameter is given twice: {names}")
        asked = Asked(method, path, dict(query), headers, self._user(headers))
        self.asked.append(f"{method} {path}")
        fixed = _discovery(path)
        if fixed is not None:
            self._only(asked, "timeout")
            return fixed
        for kind in KINDS:
            place = rf"{kind.base}(?:/namespaces/([^/]+))?/{kind.plural}(?:/([^/]+)(?:/([^/]+))?)?"
            match = re.fullmatch(place, path)
            if match and (kind.namespaced or not match[1]):
                return self._of_kind(asked, kind, match[1] or "", match[2] or "", match[3] or "")
        raise RefusedError(404, "NotFound", "the server could not find the requested resource")

    def complain(self, message: str) -> RefusedError:
        """Note what the client did wrong, and return the refusal of it."""
        self.complaints.append(message)
        return RefusedError(400, "BadRequest", message)

    def _user(self, headers: Mapping[str, str]) -> str:
        if not self.tokens:
            return "system:anonymous"
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        return self.tokens[token]

    def _only(self, asked: Asked, *names: str) -> None:
        unknown = set(asked.query) - set(names)
        if asked.method != "GET":
            raise RefusedError(405, "MethodNotAllowed", f"{asked.method} is not supported: this cluster only reads")
        if unknown:
            raise self.complain(f"unknown parameters: {sorted(unknown)}")

    def _of_kind(self, asked: Asked, kind: Kind, namespace: str, name: str, sub: str) -> object:
        if sub == "portforward" and kind.plural == "pods":
            return self._forward(asked, kind, namespace, name)
        if sub:
            raise RefusedError(404, "NotFound", "the server could not find the requested resource")
        if name:
            self._only(asked, "timeout")
            self._permit(asked, "get", kind.plural, namespace)
            return self._one(kind, namespace, name)
        common = ("labelSelector", "fieldSelector", "resourceVersion", "timeout", "watch")
        if asked.query.get("watch") in ("true", "1"):
            if "sendInitialEvents" in asked.query:  # as a server does that has no WatchList: the client lists instead
                raise RefusedError(422, "Invalid", "sendInitialEvents is forbidden without the feature gate WatchList")
            self._only(asked, *common, "allowWatchBookmarks", "timeoutSeconds")
            self._permit(asked, "watch", kind.plural, namespace)
            return self._watch(asked, kind, namespace)
        self._only(asked, *common, "limit", "continue")
        self._permit(asked, "list", kind.plural, namespace)
        return self._list(asked, kind, namespace)

    def _permit(self, asked: Asked, verb: str, resource: str, namespace: str) -> None:
        if not self.allowed(asked.user, verb, resource, namespace):
            place = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
            plural = resource.partition("/")[0]
            raise RefusedError(
                403, "Forbidden",
                f'{plural} is forbidden: User "{asked.user}" cannot {verb} resource "{resource}" in API group "" {place}',
            )  # fmt: skip

    def _one(self, kind: Kind, namespace: str, name: str) -> Object:
        item = self.cluster.items.get((kind.plural, namespace, name))
        if item is None:
            raise RefusedError(404, "NotFound", f'{kind.plural} "{name}" not found')
        return item

    def _list(self, asked: Asked, kind: Kind, namespace: str) -> Object:
        cluster, wanted = self.cluster, self._wanted(asked)
        items = [item for item in cluster.of(kind, namespace) if wanted(item)]
        limit = self._number(asked, "limit")
        version, begin = str(cluster.version), 0
        if "continue" in asked.query:
            version, begin = self._token(asked.query["continue"])
        metadata: Object = {"resourceVersion": version}
        page = items[begin : begin + limit] if limit else items[begin:]
        if limit and begin + limit < len(items):
            metadata["continue"] = f"v{version}-{begin + limit}"
            metadata["remainingItemCount"] = len(items) - begin - limit
        return {"kind": f"{kind.kind}List", "apiVersion": kind.group, "metadata": metadata, "items": page}

    def _token(self, text: str) -> tuple[str, int]:
        match = re.fullmatch(r"v([0-9]+)-([0-9]+)", text)
        if match is None:
            raise self.complain(f"continue key is not valid: {text!r}")
        if int(match[1]) < self.cluster.oldest:
            raise RefusedError(410, "Expired", "The provided continue parameter is too old")
        return match[1], int(match[2])

    def _watch(self, asked: Asked, kind: Kind, namespace: str) -> Watching:
        text = asked.query.get("resourceVersion", "")
        if not text.isdecimal():
            raise self.complain(f"a watch must begin at the resource version of a list, not at {text!r}")
        seconds = self._number(asked, "timeoutSeconds") or 1800
        bookmarks = asked.query.get("allowWatchBookmarks") in ("true", "1")
        watching = Watching(kind, namespace, self._wanted(asked), int(text), bookmarks, float(seconds))
        if watching.version < self.cluster.oldest and not self.gone_by_event:
            raise too_old(watching, self.cluster)
        return watching

    def _forward(self, asked: Asked, kind: Kind, namespace: str, name: str) -> Forwarding:
        self._only(asked, "ports")
        self._permit(asked, "get", "pods/portforward", namespace)
        pod = self._one(kind, namespace, name)
        port = self._number(asked, "ports")
        if not 0 < port < 65536:
            raise self.complain("a port-forward names one port, by its number")
        if pod.get("status", {}).get("phase") != "Running":
            phase = pod.get("status", {}).get("phase", "Unknown")
            raise RefusedError(
                400, "BadRequest", f"unable to forward port because pod is not running. Current status={phase}"
            )
        address = self.cluster.forwards.get((namespace, name, port))
        return Forwarding(namespace, name, pod["metadata"].get("uid", ""), port, address)

    def _number(self, asked: Asked, name: str) -> int:
        text = asked.query.get(name, "0")
        if not (text.isascii() and text.isdecimal()):
            raise self.complain(f"{name} is not a number: {text!r}")
        return int(text)

    def _wanted(self, asked: Asked) -> Callable[[Object], bool]:
        labels = self._selector(asked.query.get("labelSelector", ""))
        fields = self._selector(asked.query.get("fieldSelector", ""))

        def wanted(item: Object) -> bool:
            metadata = item["metadata"]
            known = {
                "metadata.name": metadata["name"], "metadata.namespace": metadata.get("namespace", ""),
                "spec.nodeName": item.get("spec", {}).get("nodeName", ""),
                "status.phase": item.get("status", {}).get("phase", ""),
            }  # fmt: skip
            return labels(metadata.get("labels") or {}) and fields(known)

        return wanted

    def _selector(self, text: str) -> Callable[[Mapping[str, str]], bool]:
        """Read a selector: ``a=b``, ``a==b``, ``a!=b``, ``a``, ``!a``, ``a in (b,c)``, ``a notin (b,c)``, with commas."""
        tests: list[Callable[[Mapping[str, str]], bool]] = []
        for part in filter(None, re.split(r",(?![^()]*\))", text)):
            test = selector_test(part.strip())
            if test is None:
                raise self.complain(f"unable to parse requirement: {part!r}")
            tests.append(test)
        return lambda labels: all(test(labels) for test in tests)


_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"


def selector_test(text: str) -> Callable[[Mapping[str, str]], bool] | None:
    """Return the test of one requirement of a selector; None where it is none."""
    if match := re.fullmatch(rf"({_NAME})\s*(==|=|!=)\s*({_NAME}|)", text):
        name, operator, value = match.groups()
        return lambda labels: (labels.get(name) == value) is (operator != "!=")
    if match := re.fullmatch(rf"({_NAME})\s+(in|notin)\s+\(([^()]*)\)", text):
        name, operator = match[1], match[2]
        values = {value.strip() for value in match[3].split(",")}
        return lambda labels: (labels.get(name) in values) is (operator == "in")
    if match := re.fullmatch(rf"(!?)\s*({_NAME})", text):
        negated, name = match.groups()
        return lambda labels: (name in labels) is not bool(negated)
    return None


def too_old(watching: Watching, cluster: Cluster) -> RefusedError:
    """The refusal of a watch from a version that is forgotten."""
    return RefusedError(410, "Expired", f"too old resource version: {watching.version} ({cluster.oldest})")


def _discovery(path: str) -> Object | None:
    """What a client is told of the server itself."""
    groups = sorted({kind.group for kind in KINDS} - {"v1"})
    if path == "/version":
        return dict(VERSION)
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        described = [{"groupVersion": group, "version": group.partition("/")[2]} for group in groups]
        listed = [
            {"name": one["groupVersion"].partition("/")[0], "versions": [one], "preferredVersion": one}
            for one in described
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    for group in ["v1", *groups]:
        if path == ("/api/v1" if group == "v1" else f"/apis/{group}"):
            resources = [
                {"name": kind.plural, "singularName": "", "namespaced": kind.namespaced, "kind": kind.kind,
                 "verbs": ["get", "list", "watch"]}
                for kind in KINDS if kind.group == group
            ]  # fmt: skip
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": resources}
    return None


def to_json(value: object) -> bytes:
    """Write JSON on one line, as the server does."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
