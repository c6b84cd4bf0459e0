"""Kubeconfig files: clusters, users and contexts, merged and made into an ``Access``.

Strategy. Several files are merged as kubectl does: of clusters, users, contexts and the current context the first that
names one wins. Paths are relative to the file that names them. Only the context in force is looked at, so that a mistake
elsewhere in a long file harms nobody. What is not supported (auth providers, impersonation, SOCKS proxies) is refused by
name and never passed over: a request in another's name would be worse than none.
Source: client-go, tools/clientcmd/{api/v1/types,loader,client_config,validation}.go.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.credentials import authorization, read_secret
from agent.http_fault import Fault, safe_url, shorten
from agent.kubernetes.access import Access, Credentials, PemInMemory, Standing, stamp_of
from agent.kubernetes.exec_plugin import ExecPlugin, read_exec
from agent.proxy import ProxyError, is_loopback, proxy_of
from agent.settings import BasicAuth, Secret, Tls
from agent.tls import reason

MAX_FILE = 16 << 20  # bytes of the largest kubeconfig that is read
MAX_DEPTH = 50  # collections inside each other
_SCHEMES = ("http://", "https://")
_IMPERSONATION = ("as", "as-uid", "as-groups", "as-user-extra")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cluster, a user or a context: its fields, and the file that it stands in."""

    what: str  # such as 'user "admin"'
    fields: Mapping[str, Any]
    file: Path

    def wrong(self, why: str) -> Fault:
        return _fault(f"{self.what} of {self.file}: {why}")

    def text(self, name: str) -> str:
        """A field that is text, "" where it is missing or null."""
        value = self.fields.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        raise self.wrong(f"{name} is not a string; put it in quotes")

    def table(self, name: str) -> Mapping[str, Any]:
        value = self.fields.get(name)
        if value is None or isinstance(value, dict):
            return value or {}
        raise self.wrong(f"{name} is not a mapping; write its keys on lines of their own, indented")

    def flag(self, name: str) -> bool:
        value = self.fields.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self.wrong(f"{name} is neither true nor false; write one of them")

    def path(self, name: str) -> str:
        """A field that is a path, made absolute."""
        text = self.text(name)
        return str(self.file.parent / text) if text else ""

    def data(self, name: str) -> bytes:
        """A field in base64."""
        try:
            return base64.b64decode("".join(self.text(name).split()), validate=True)
        except binascii.Error:
            raise self.wrong(f"{name} is not base64; copy it again, whole") from None

    def pem(self, name: str) -> bytes:
        """The PEM text of a field ``NAME-data``, or of the file that ``NAME`` names; b"" for neither."""
        if self.text(f"{name}-data"):
            return self.data(f"{name}-data")
        path = self.path(name)
        return _read(Path(path), self.what) if path else b""


def read_kubeconfig(paths: list[Path], context: str | None, source: str) -> Access:
    """Return the access of a context, or of the current one, of these files; ``source`` says who named them.

    Raises Fault "credentials" where a file cannot be read, and for what it says wrongly or what is not supported.
    """
    files = [(path, _load(path, source)) for path in paths]
    names = ", ".join(map(str, paths))
    chosen = context or next((name for _, file in files if (name := file.get("current-context"))), None)
    if not isinstance(chosen, str):
        raise _fault(f"{names}: it has no current context; set `context`, or run kubectl config use-context")
    place = _named(files, "contexts", "context", chosen)
    cluster = _named(files, "clusters", "cluster", place.text("cluster"))
    user = _named(files, "users", "user", place.text("user")) if place.text("user") else _Entry("no user", {}, paths[0])
    return _access(cluster, user, place.text("namespace") or "default", f"context {chosen!r} of {names}", paths)


def _access(cluster: _Entry, user: _Entry, namespace: str, told_by: str, paths: list[Path]) -> Access:
    server, proxy = _server(cluster), _proxy(cluster)
    kept: list[PemInMemory] = []

    def hold(pem: bytes) -> str | None:
        if pem:
            kept.append(PemInMemory(pem))
        return kept[-1].path if pem else None

    authority = cluster.pem("certificate-authority")
    insecure = cluster.flag("insecure-skip-tls-verify")
    if authority and insecure:
        raise cluster.wrong("it has an authority, and insecure-skip-tls-verify beside it; keep one of them")
    certificate, key = user.pem("client-certificate"), user.pem("client-key")
    if bool(certificate) != bool(key):
        raise user.wrong("a client certificate goes with a client key; add the one that is missing")
    tls = Tls(
        ca_file=hold(authority),
        cert_file=hold(certificate),
        key_file=hold(key),
        server_name=cluster.text("tls-server-name") or None,
        insecure_skip_verify=insecure,
    )
    credentials = _credentials(user, cluster) if _is_confidential(server) else Standing()
    named = [
        entry.path(name)
        for entry, name in ((cluster, "certificate-authority"), (user, "client-certificate"), (user, "client-key"))
        if entry.text(name)
    ]
    files = {path: stamp_of(path) for path in (*map(str, paths), *named)}
    return Access(server, tls, credentials, namespace, told_by, proxy, files, tuple(kept))


def _server(cluster: _Entry) -> str:
    server = cluster.text("server").rstrip("/")
    if server and "://" not in server:
        server = f"https://{server}"
    if not _is_http(server):
        raise cluster.wrong("server is missing, or is no HTTP URL; write one such as https://host:6443")
    return server


def _is_http(url: str) -> bool:
    """Whether it is an HTTP URL with a host and a port that can be."""
    try:
        parts = urlsplit(url)
        return url.startswith(_SCHEMES) and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False


def _is_confidential(server: str) -> bool:
    """Whether credentials may be shown there: as with kubectl, not in clear text to another machine."""
    return server.startswith("https://") or is_loopback(urlsplit(server).hostname or "")


def _proxy(cluster: _Entry) -> str | None:
    proxy = cluster.text("proxy-url")
    if proxy and not _is_http(proxy):
        raise cluster.wrong(
            f"proxy-url {safe_url(proxy)} is of a kind that is not supported; use an HTTP proxy, http:// or https://"
        )
    try:
        return proxy or proxy_of(_server(cluster), os.environ)
    except ProxyError as error:
        raise Fault("credentials", str(error)) from None


def _credentials(user: _Entry, cluster: _Entry) -> Credentials:
    """What the user shows beside a certificate. A token or a password comes before a plugin, as in client-go."""
    if user.fields.get("auth-provider") is not None:
        raise user.wrong("auth-provider is not supported, nor is it by Kubernetes since 1.26; use an exec plugin")
    if any(user.fields.get(name) for name in _IMPERSONATION):
        raise user.wrong("impersonation (as, as-groups) is not supported; use credentials of the user itself")
    token, password = user.text("token"), user.text("password")
    if (token or user.text("tokenFile")) and user.text("username"):
        raise user.wrong("it has a token, and a user name beside it; keep one of them")
    if user.text("tokenFile"):
        return Standing(_bearer(read_secret(None, user.path("tokenFile"), "tokenFile")))
    if token:
        return Standing(_bearer(lambda: token))
    if user.text("username"):
        return Standing(authorization(BasicAuth(username=user.text("username"), password=Secret(password)), None, None))
    if user.table("exec"):
        return ExecPlugin(read_exec(user.table("exec"), user.file.parent, user.what), _cluster_info(cluster))
    return Standing()


def _bearer(read: Callable[[], str]) -> Callable[[], str]:
    return lambda: f"Bearer {read()}"


def _cluster_info(cluster: _Entry) -> dict[str, Any]:
    """What a plugin may be told of the cluster: ``spec.cluster`` of an ExecCredential."""
    info: dict[str, Any] = {"server": _server(cluster)}
    for name in ("tls-server-name", "proxy-url"):
        if cluster.text(name):
            info[name] = cluster.text(name)
    if cluster.flag("insecure-skip-tls-verify"):
        info["insecure-skip-tls-verify"] = True
    if authority := cluster.pem("certificate-authority"):
        info["certificate-authority-data"] = base64.b64encode(authority).decode()
    for extension in cluster.fields.get("extensions") or ():
        if isinstance(extension, dict) and extension.get("name") == "client.authentication.k8s.io/exec":
            info["config"] = extension.get("extension")
    return info


def _named(files: list[tuple[Path, Mapping[str, Any]]], table: str, kind: str, name: str) -> _Entry:
    """The first entry of this name in a list of ``{name: ..., KIND: {...}}``."""
    known: list[str] = []
    for path, file in files:
        entries = file.get(table)
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                continue
            fields = entry.get(kind)
            if entry["name"] == name:
                return _Entry(f"{kind} {name!r}", fields if isinstance(fields, dict) else {}, path)
            known.append(entry["name"])
    names = ", ".join(str(path) for path, _ in files)
    there = f"there are {shorten(', '.join(sorted(set(known))))}" if known else "there is none at all"
    raise _fault(f"{names}: no {kind} is named {name!r}; {there}")


def _load(path: Path, source: str) -> Mapping[str, Any]:
    data = _read(path, source)
    try:
        import yaml
    except ImportError:
        raise _fault(f"{path}: PyYAML is not installed; install the extra ebbtide[kubernetes]") from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(data, Loader=loader):  # the loader written in C recurses without a bound
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise RecursionError
        file = yaml.load(data, Loader=loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise _fault(f"{path}: it is not YAML{where}; write it anew with kubectl config view --raw") from None
    if not isinstance(file, dict):
        raise _fault(f"{path}: it is no kubeconfig; expected apiVersion, clusters, users, contexts") from None
    return file


def _read(path: Path, source: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise _fault(f"{path} of {source}: {reason(error)}; check the path and who may read it") from None
    if len(data) > MAX_FILE:
        raise _fault(f"{path} of {source}: it is larger than {MAX_FILE >> 20} MiB; name the right file")
    return data


def _fault(sentence: str) -> Fault:
    return Fault("credentials", f"cannot use the kubeconfig: {sentence}")
