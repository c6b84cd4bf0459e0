"""What every polling receiver shares: its options, its clock, and how it speaks of failures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

import trio

from ebbtide import (
    BasicAuth,
    Client,
    Emit,
    PositiveDuration,
    PositiveSize,
    ReceiveError,
    Receiver,
    Secret,
    Settings,
    Tls,
    option,
)
from receivers.limits import Limits

_REMIND = 300.0  # s: a failure that lasts is logged again, with the count of its repeats
_NS = 10**9

MetricType = Literal["counter", "gauge", "histogram", "summary", "info", "stateset", "unknown"]


class PollingSettings(Settings):
    """The options of every receiver that polls."""

    interval: PositiveDuration = option(
        "10s", "How often to poll. The first poll is immediate, later ones are aligned to it."
    )
    timeout: PositiveDuration = option("10s", "Deadline of one whole poll.")
    headers: dict[str, Secret] = option({}, "Headers to send with each request.")
    bearer_token: Secret | None = option(None, "Bearer token to send.")
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
        "track", "Start times of cumulative streams: tracked by first sight and resets, or left unset."
    )
    types: dict[str, MetricType] = option(
        {}, "Types that the operator knows better, by metric; before all other rules."
    )

    @property
    def limits(self) -> Limits:
        """The limits of one scrape."""
        return Limits(self.sample_limit, self.label_limit, self.label_name_length_limit, self.label_value_length_limit)

    def client(self) -> Client:
        """Return an HTTP client with these options."""
        return Client(
            headers=self.headers,
            tls=self.tls,
            basic_auth=self.basic_auth,
            bearer_token=self.bearer_token,
            bearer_token_file=self.bearer_token_file,
            keepalive_expiry=max(90.0, 3 * self.interval),
        )


P = TypeVar("P", bound=PollingSettings)


class Complaints:
    """Says a failure once, and again after a while with the count of its repeats; says when it is over."""

    def __init__(self, log: Any, what: str):
        self._log = log
        self._what = what
        self._sentence = ""
        self._repeats = 0  # of the sentence
        self._failures = 0  # since it was last well, whatever the sentence
        self._said = 0.0

    def failed(self, sentence: str) -> None:
        """Log the failure unless it has been said a short while ago."""
        now = trio.current_time()
        self._repeats += 1
        self._failures += 1
        if sentence != self._sentence:
            self._repeats, self._sentence, self._said = 1, sentence, now
            self._log.warning("%s: %s", self._what, sentence)
        elif now - self._said >= _REMIND:
            self._said = now
            self._log.warning("%s: %s (%d times)", self._what, sentence, self._repeats)

    def passed(self) -> None:
        """Log that it is well again, if it was not."""
        if self._sentence:
            self._log.info("%s: well again after %d failed polls", self._what, self._failures)
            self._sentence, self._repeats, self._failures = "", 0, 0


class PollingReceiver(Receiver[P], Generic[P]):
    """Polls at once, then aligned to the interval; never two polls at a time."""

    @abstractmethod
    async def poll(self, emit: Emit) -> None:
        """Poll once and emit what came. Raises ReceiveError where the poll is lost; it has been counted then."""

    async def aclose(self) -> None:
        """Let go of connections."""

    async def run(self, emit: Emit) -> None:
        """Poll for ever."""
        complaints = Complaints(self.context.log, f"receivers.{self.context.id}")
        schedule = Schedule(round(self.settings.interval * _NS))
        try:
            while True:
                try:
                    await self.poll(emit)
                    complaints.passed()
                except ReceiveError as error:
                    complaints.failed(str(error))
                await trio.sleep(schedule.wait(self.context.now()) / _NS)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self.aclose()

    async def once(self, emit: Emit) -> None:
        """Poll exactly once."""
        try:
            await self.poll(emit)
        except ReceiveError as error:
            self.context.log.warning("receivers.%s: %s", self.context.id, error)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self.aclose()


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
    """Return host:port of a URL, the port filled in."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def labels_of(job: str, url: str) -> Mapping[str, str]:
    """Return the labels of a poll's own series."""
    return {"job": job, "instance": instance_of(url)}


__all__ = ["Complaints", "PollingReceiver", "PollingSettings", "Schedule", "instance_of", "labels_of"]
