"""Targets by DNS: every address of some names, asked again and again.

Source: prometheus/prometheus, discovery/dns/dns.go. Looked up by dnspython on trio, which reads /etc/resolv.conf.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import trio
from pydantic import AfterValidator, Field, model_validator

from ebbtide import ConfigError, FoldedLog, OptionError, PositiveDuration, ReceiveError, Settings, option
from receivers.discovery import Groups, TargetGroup
from receivers.target_set import ADDRESS

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

LOOK_UP_SECONDS = 10.0
"""Deadline of one look-up, all servers and search domains together."""

_NAME = re.compile(r"(?=.{1,253}\.?$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*\.?")  # fmt: skip


def _a_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no domain name; write one such as proxies.mesh.svc.cluster.local")
    return name


class DnsDiscoverySettings(Settings):
    """Targets by DNS."""

    kind: Literal["dns"] = option("dns", "Where targets come from.")
    names: list[Annotated[str, AfterValidator(_a_name)]] = option(
        ..., "Domain names to look up.", min_length=1, examples=[["proxies.mesh.svc.cluster.local"]]
    )
    record: Literal["A", "AAAA", "SRV"] = option("A", "Kind of record to look up.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = option(
        None, "Port of the targets; SRV records bring their own.", examples=[4191]
    )
    refresh: PositiveDuration = option("30s", "How often to look them up.")

    @model_validator(mode="after")
    def _has_its_port(self) -> Self:
        if self.record != "SRV" and self.port is None:
            raise OptionError(f"needs a port with record {self.record}; add port = 4191, say", "record")
        return self


class DnsDiscovery:
    """Looks names up again and again. A name that cannot be looked up keeps its addresses; one that has none loses them."""

    def __init__(self, settings: DnsDiscoverySettings, log: FoldedLog, name: str, resolver: Resolver | None = None):
        self._settings = settings
        self._log = log
        self._name = name
        self._known: dict[str, TargetGroup] = {}
        self._resolver = resolver
        need_dns()

    async def run(self, update: Callable[[Groups], None]) -> None:
        """Tell of all targets after each round of look-ups."""
        due = trio.current_time()
        while True:
            failed = await self._round()
            for name in self._settings.names:
                if name in failed:
                    self._log(logging.WARNING, f"dns {name}", "receivers.%s: cannot look up %s: %s; its targets stay as they were",
                              self._name, name, failed[name])  # fmt: skip
                else:
                    self._log.recovered(
                        f"dns {name}", "receivers.%s: %s can be looked up again after %d failures", self._name, name
                    )
            if self._known:
                update(dict(self._known))
            due = max(due + self._settings.refresh, trio.current_time())
            await trio.sleep_until(due)

    async def once(self) -> Groups:
        """Look all names up once. Raises ReceiveError where one cannot be."""
        for name, why in (await self._round()).items():
            raise ReceiveError(f"cannot look up {name}: {why}; check `discovery`, and the name servers")
        return dict(self._known)

    async def _round(self) -> dict[str, str]:
        """Look all names up, all at once; return those that could not be, and why."""
        failed: dict[str, str] = {}
        async with trio.open_nursery() as nursery:
            for name in self._settings.names:
                nursery.start_soon(self._look_up, name, failed)
        return failed

    async def _look_up(self, name: str, failed: dict[str, str]) -> None:
        import dns.exception
        import dns.resolver

        if self._resolver is None:
            from dns.asyncresolver import Resolver

            try:
                self._resolver = Resolver()
            except dns.exception.DNSException as error:
                failed[name] = str(error)
                return
        try:
            answer = await self._resolver.resolve(
                name, self._settings.record, raise_on_no_answer=False, lifetime=LOOK_UP_SECONDS, search=True
            )
        except dns.resolver.NXDOMAIN:
            self._known[name] = TargetGroup(name, {}, ())
        except dns.exception.DNSException as error:
            failed[name] = " ".join(str(error).split()) or type(error).__name__
        else:
            targets = sorted((self._target(record) for record in answer.rrset or ()), key=lambda one: one[ADDRESS])
            self._known[name] = TargetGroup(name, {"__meta_dns_name": name}, tuple(targets))

    def _target(self, record: Any) -> Mapping[str, str]:
        if self._settings.record != "SRV":
            return {ADDRESS: _joined(record.address, self._settings.port or 0)}
        host = record.target.to_text()
        meta = {"__meta_dns_srv_record_target": host, "__meta_dns_srv_record_port": str(record.port)}
        return {ADDRESS: _joined(host.rstrip("."), self._settings.port or record.port), **meta}


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def need_dns() -> None:
    """Raise ConfigError where the library is not installed."""
    try:
        import dns.asyncresolver  # noqa: F401
    except ImportError:
        raise ConfigError(
            "cannot look targets up by DNS: no library for it is installed; run: pip install 'ebbtide[dns]'",
            "discovery",
        ) from None
