"""What every polling receiver shares: its options, its clock, and how it speaks of failures."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Literal, Self, TypeVar
from urllib.parse import urlsplit

import trio
from pydantic import model_validator

from ebbtide import (
    BasicAuth,
    Client,
    ClusterSettings,
    Context,
    Emit,
    FoldedLog,
    Headers,
    OptionError,
    PositiveDuration,
    PositiveSize,
    ReceiveError,
    Receiver,
    ServerUrl,
    Settings,
    Tls,
    Token,
    check_kubeconfig,
    is_address,
    need_kubernetes,
    option,
    span,
    split_address,
)
from receivers.limits import Limits

_NS = 10**9

MetricType = Literal["counter", "gauge", "histogram", "summary", "info", "stateset", "unknown"]


class PollingSettings(Settings):
    """The options of every receiver that polls."""

    interval: PositiveDuration = option(
        "10s", "How often to poll. The first poll is immediate, later ones are aligned to it."
    )
    timeout: PositiveDuration = option("10s", "Deadline of one whole poll.")
    headers: Headers = option({}, "Headers to send with each request.")
    bearer_token: Token | None = option(None, "Bearer token to send.")
    bearer_token_file: str | None = option(None, "File that holds the bearer token; read again when it changes.")
    basic_auth: BasicAuth | None = option(None, "User name and password to send.")
    tls: Tls = option(Tls(), "TLS, for `https://` URLs.")
    max_body: PositiveSize = option("512MiB", "Largest body, inflated; a larger one is refused.")
    sample_limit: int = option(0, "Most samples of one answer; more refuse it. 0 = off.", ge=0)
    label_limit: int = option(0, "Most labels of one series; more refuse the answer. 0 = off.", ge=0)
    label_name_length_limit: int = option(0, "Longest label name; longer refuse the answer. 0 = off.", ge=0)
    label_value_length_limit: int = option(0, "Longest label value; longer refuse the answer. 0 = off.", ge=0)
    scrape_metrics: bool = option(True, "Add the five series `up` and `scrape_*` of each poll.")
    start_times: Literal["track", "none"] = option(
        "track", "Start times of cumulative streams: tracked by first sight and resets, or only those told."
    )
    types: dict[str, MetricType] = option(
        {}, "Types that the operator knows better, by metric; before all other rules."
    )

    @model_validator(mode="after")
    def _says_once_who_we_are(self) -> Self:
        others = ("basic_auth", "bearer_token", "bearer_token_file")
        token = next((name for name in others if getattr(self, name) is not None), None)
        if token and any(name.lower() == "authorization" for name in self.headers):
            raise OptionError(f"the header authorization and {token} are both set; keep one of them", "headers")
        return self

    @property
    def limits(self) -> Limits:
        """The limits of one scrape."""
        return Limits(self.sample_limit, self.label_limit, self.label_name_length_limit, self.label_value_length_limit)

    def client(self, **more: Any) -> Client:
        """Return an HTTP client with these options; ``more`` of its own."""
        return Client(
            **more,
            headers=self.headers,
            tls=self.tls,
            basic_auth=self.basic_auth,
            bearer_token=self.bearer_token,
            bearer_token_file=self.bearer_token_file,
            keepalive_expiry=max(90.0, 3 * self.interval),
        )


class ServerSettings(PollingSettings, ClusterSettings):
    """The options of every receiver that polls one server."""

    url: ServerUrl = option(..., "Base URL of the server.")

    def client(self, **more: Any) -> Client:
        """Return an HTTP client with these options. Raises ConfigError where a library is missing, or the kubeconfig wrong."""
        need_kubernetes(self.kubeconfig, self.context, self.url)
        if is_address(self.url):
            check_kubeconfig(self.kubeconfig, self.context, "kubeconfig" if self.kubeconfig else "context")
        return super().client(kubeconfig=self.kubeconfig, context=self.context, **more)


P = TypeVar("P", bound=PollingSettings)


class PollingReceiver(Receiver[P], Generic[P]):
    """Polls at once, then aligned to the interval; never two polls at a time."""

    def __init__(self, settings: P | None = None, context: Context | None = None):
        super().__init__(settings, context)
        self._left = trio.Event()

    @abstractmethod
    async def poll(self, emit: Emit) -> None:
        """Poll once and emit what came. Raises ReceiveError where the poll is lost; it has been counted then."""

    async def aclose(self) -> None:
        """Let go of connections."""

    def leave(self) -> bool:
        """Return from ``run`` after the poll that is under way."""
        self._left.set()
        return True

    async def run(self, emit: Emit) -> None:
        """Poll until asked to leave."""
        name = self.context.id
        log = FoldedLog(self.context.log, trio.current_time, f"receivers.{name}")
        schedule = Schedule(round(self.settings.interval * _NS))
        try:
            while not self._left.is_set():
                try:
                    await self._measured(emit)
                    log.recovered("poll", "receivers.%s: well again after %d failed polls", name)
                except ReceiveError as error:
                    log(logging.WARNING, "poll", "receivers.%s: %s", name, error)
                with trio.move_on_after(schedule.wait(self.context.now()) / _NS):
                    await self._left.wait()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self.aclose()

    async def once(self, emit: Emit) -> None:
        """Poll exactly once."""
        try:
            await self._measured(emit)
        except ReceiveError as error:
            self.context.log.warning("receivers.%s: %s", self.context.id, error)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self.aclose()

    async def _measured(self, emit: Emit) -> None:
        """Poll, for the self-telemetry: as a span, and with how long it took and when it last went well."""
        counts, began = self.counts, trio.current_time()
        samples, out = counts.samples, counts.out
        with span("poll", receiver=self.context.id) as polled:
            try:
                await self.poll(emit)
                counts.last_success = self.context.now() / _NS
            finally:
                counts.poll_seconds += trio.current_time() - began
                polled.set(samples=counts.samples - samples, out=counts.out - out)


class Schedule:
    """When to poll next: at whole multiples of the interval, in ns of the wall clock."""

    def __init__(self, interval: int):
        self.interval = interval
        self._last = 0

    def wait(self, now: int) -> int:
        """Return how long to wait. A boundary is met once, even where the clock wakes us a little early."""
        due = (now // self.interval + 1) * self.interval
        if due == self._last:
            due += self.interval
        self._last = due
        return due - now


def instance_of(url: str) -> str:
    """Return host:port of a URL, the port filled in; of a ``kubernetes://`` URL those that would lead there inside."""
    if is_address(url):
        return split_address(url)[0].instance
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def labels_of(job: str, url: str) -> Mapping[str, str]:
    """Return the labels of a poll's own series."""
    return {"job": job, "instance": instance_of(url)}


__all__ = ["PollingReceiver", "PollingSettings", "Schedule", "ServerSettings", "instance_of", "labels_of"]
