"""Exec plugins of a kubeconfig: a program that prints a token or a client certificate, asked again when they expire.

Source: client-go, plugin/pkg/client/auth/exec/exec.go, and the API group client.authentication.k8s.io (v1, v1beta1).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from agent.http_fault import Fault, shorten
from agent.kubernetes.access import Pass, PemInMemory
from agent.settings import show_duration
from agent.tls import reason

GROUP = "client.authentication.k8s.io"
VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
TIMEOUT = 60.0  # seconds that a plugin may take


@dataclass(frozen=True, slots=True)
class ExecOptions:
    """How to run a plugin. ``whose`` names the user in the kubeconfig; ``hint`` says how to install it."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    api_version: str
    provide_cluster_info: bool
    whose: str
    hint: str = ""


def read_exec(table: Mapping[str, Any], folder: Path, whose: str) -> ExecOptions:
    """Read the ``exec`` of a user. A command with a slash is relative to the kubeconfig's folder.

    Raises Fault "credentials" for what is wrong or not supported.
    """
    command, version = table.get("command"), table.get("apiVersion")
    if not isinstance(command, str) or not command:
        raise _fault(whose, "it names no command; add one")
    if version not in VERSIONS:
        raise _fault(whose, f"its apiVersion is not supported; write {VERSIONS[0]}")
    if table.get("interactiveMode") == "Always":
        raise _fault(whose, "it must be run at a terminal (interactiveMode: Always); use credentials that need none")
    if "/" in command:
        command = str(folder / command)
    args = table.get("args") or []
    env = table.get("env") or []
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise _fault(whose, "its args are not a list of strings; put each in quotes")
    if not isinstance(env, list) or not all(
        isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("value"), str)
        for item in env
    ):
        raise _fault(whose, "its env is not a list of names and values; write - name: and value: in quotes")
    return ExecOptions(
        command=command,
        args=tuple(args),
        env={item["name"]: item["value"] for item in env},
        api_version=version,
        provide_cluster_info=table.get("provideClusterInfo") is True,
        whose=whose,
        hint=hint if isinstance(hint := table.get("installHint"), str) else "",
    )


class ExecPlugin:
    """Credentials that a plugin gives; one run serves all requests until they expire or are refused."""

    def __init__(self, options: ExecOptions, cluster: Mapping[str, Any], now: Callable[[], float] = time.time):
        self._options = options
        self._cluster = cluster
        self._now = now
        self._lock = trio.Lock()
        self._held: tuple[Pass, float] | None = None  # with the moment of its end

    async def __call__(self) -> Pass:
        """Return what the plugin gave, running it where nothing valid is held. Raises Fault "credentials"."""
        async with self._lock:
            if self._held is None or self._now() >= self._held[1]:
                self._held = None
                self._held = self._read(await self._run())
            return self._held[0]

    def refused(self) -> bool:
        """Forget what is held: the plugin may give another."""
        self._held = None
        return True

    async def _run(self) -> bytes:
        options = self._options
        spec: dict[str, Any] = {"interactive": False}
        if options.provide_cluster_info:
            spec["cluster"] = self._cluster
        info = json.dumps({"apiVersion": options.api_version, "kind": "ExecCredential", "spec": spec})
        environ = {**os.environ, **options.env, "KUBERNETES_EXEC_INFO": info}
        try:
            with trio.fail_after(TIMEOUT):
                done = await trio.run_process(
                    [options.command, *options.args],
                    stdin=subprocess.DEVNULL, capture_stdout=True, capture_stderr=True, check=False, env=environ,
                )  # fmt: skip
        except trio.TooSlowError:
            raise self._wrong(f"it took more than {show_duration(TIMEOUT)}; run it by hand to see why") from None
        except OSError as error:
            cure = shorten(options.hint) or "install it, or name its path"
            raise self._wrong(f"{reason(error)}; {cure}") from None
        if done.returncode:
            said = shorten(done.stderr.decode(errors="replace")) or "nothing"
            raise self._wrong(f"it ended with status {done.returncode} and said: {said}; run it by hand")
        return done.stdout

    def _read(self, output: bytes) -> tuple[Pass, float]:
        """Take an ExecCredential apart. Nothing of it is shown: it is a secret."""
        try:
            credential = json.loads(output)
            status = credential["status"]
            right = credential["kind"] == "ExecCredential" and credential["apiVersion"] == self._options.api_version
            token = status.get("token") or ""
            certificate, key = status.get("clientCertificateData") or "", status.get("clientKeyData") or ""
            ends = status.get("expirationTimestamp")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise self._wrong("its output is no ExecCredential; run it by hand") from None
        texts = all(isinstance(text, str) for text in (token, certificate, key))
        if not right or not texts or bool(certificate) != bool(key):
            raise self._wrong(
                f"its output is no ExecCredential of {self._options.api_version}; run it by hand, or correct apiVersion"
            )
        if not token and not certificate:
            raise self._wrong("it gave neither a token nor a certificate with its key; run it by hand")
        pem = PemInMemory(f"{certificate}\n{key}\n".encode()) if certificate else None
        return Pass(f"Bearer {token}" if token else "", pem), self._end(ends)

    def _end(self, text: object) -> float:
        if not text:
            return float("inf")
        try:
            moment = datetime.fromisoformat(text)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            raise self._wrong("its expirationTimestamp is not one of RFC 3339; correct the plugin") from None
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()

    def _wrong(self, why: str) -> Fault:
        return _fault(self._options.whose, f"{self._options.command}: {why}")


def _fault(whose: str, why: str) -> Fault:
    return Fault("credentials", f"cannot get credentials by the exec plugin of {whose}: {why}")
