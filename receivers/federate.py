"""Linkerd's Prometheus by ``/federate``: the newest sample of every series, with its own timestamp, its type restored.

Source: prometheus/prometheus, web/federate.go. The answer has no types, repeats what has not moved for five minutes, and
cannot say that it was cut short but by the way it ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Self

import trio
from pydantic import field_validator

from ebbtide import (
    Client,
    Context,
    Emit,
    Fault,
    PositiveDuration,
    ReceiveError,
    Recording,
    Response,
    ServerUrl,
    deadline,
    option,
    safe_url,
    settle,
)
from receivers.excerpt import excerpt
from receivers.exposition import BadPage
from receivers.health import Health
from receivers.limits import TooMuch
from receivers.match import FederatedSelector
from receivers.metadata import Enquiry
from receivers.policy import forbidden
from receivers.polling import PollingReceiver, ServerSettings, labels_of
from receivers.replay import Feeds, Noting, Remembering, Tee, feed_all
from receivers.scrape import Scrape
from receivers.skeleton import Page, PageReader
from receivers.text import show
from receivers.types import TypeBook

_ACCEPT = "text/plain;version=0.0.4"
_EXCERPT = 2048  # bytes of an error answer that are looked at
_MANY = 1000  # newcomers of a poll, after which the heap is settled
_NS = 10**9

Read = Callable[[PageReader], Awaitable[None]]


class FederateSettings(ServerSettings):
    """Options of the `federate` receiver."""

    url: ServerUrl = option(..., "Base URL of the Prometheus server; `/federate` is appended.")
    match: list[FederatedSelector] = option(
        ['{job="linkerd-proxy"}', '{job="linkerd-controller"}'],
        "Selectors of the series to take; their union is taken.",
    )
    stale_after: PositiveDuration = option(
        "5m", "A series whose timestamp does not move for so long, or which is missing for so long, ends."
    )

    @field_validator("match")
    @classmethod
    def _not_empty(cls, match: list[str]) -> list[str]:
        if not match:
            raise ValueError("no selector; write at least one, such as '{job=\"linkerd-proxy\"}'")
        return match


class Federate(PollingReceiver[FederateSettings]):
    """Polls `/federate` of a Prometheus server and gives back types, histograms, start times and ends of series."""

    Settings: ClassVar[type[FederateSettings]] = FederateSettings

    def __init__(self, settings: FederateSettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        options = self.settings
        self._client: Client = options.client()
        self._scrape = Scrape(
            self.counts,
            TypeBook(options.types),
            stale_after=round(options.stale_after * _NS),
            track_starts=options.start_times == "track",
            limits=options.limits,
        )
        self._health = Health(labels_of(self.context.id, options.url))
        self._asking = self._client, options.url, options.timeout, self.context.log, self.context.id
        self._enquiry = Enquiry(*self._asking)

    def inherit(self, old: Self) -> None:
        """Go on with all that the former one remembers of its series, under this one's options."""
        scrape, own = old._scrape, self._scrape
        scrape.stale_after, scrape.track_starts, scrape.limits = own.stale_after, own.track_starts, own.limits
        scrape.counts = self.counts
        scrape.types.obey(self.settings.types)
        self._scrape = scrape

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def poll(self, emit: Emit) -> None:
        """Poll once; what the answer holds is emitted only when all of it has come and can be read."""
        began = trio.current_time()
        self.counts.polls += 1
        try:
            page, born = await self._fetch(self._download, self._enquiry, safe_url(self._page_url))
        except ReceiveError:
            self.counts.failed_polls += 1
            await self._report(emit, self.context.now(), up=False, seconds=trio.current_time() - began)
            raise
        await self._pass_on(emit, page, born, self.context.now(), trio.current_time() - began)

    async def record(self) -> Recording:
        """Poll once; return the page as it came, and what was asked beside it for the sake of its newcomers."""
        began, now = trio.current_time(), self.context.now()
        enquiry = Noting(*self._asking)
        answers: dict[str, str | None] = {}
        enquiry.answers = answers
        tees: list[Tee] = []

        async def download(reader: PageReader) -> None:
            tees.append(Tee(reader))
            await self._download(tees[0])

        await self._counted(self._fetch(download, enquiry, safe_url(self._page_url)))
        return Recording(tees[0].body(), answers, now, trio.current_time() - began, where=safe_url(self._page_url))

    async def replay(self, recording: Recording, emit: Emit) -> None:
        """Read a saved page as if it had come when it was saved."""
        enquiry = Remembering(*self._asking)
        enquiry.answers = recording.answers
        read = self._fetch(lambda reader: feed_all(reader, recording), enquiry, recording.where)
        page, born = await self._counted(read)
        if not recording.answers:
            self.context.log.warning(
                "%s came without the server's metadata and targets: types are taken from labels, the built-in table and "
                "the names' suffixes, the targets' own labels from a list; ebbtide record saves both",
                recording.where,
            )
        await self._pass_on(emit, page, born, recording.time or self.context.now(), recording.seconds)

    async def _counted(self, fetched: Awaitable[tuple[Page, int]]) -> tuple[Page, int]:
        """Await a page, and count the poll."""
        self.counts.polls += 1
        try:
            return await fetched
        except ReceiveError:
            self.counts.failed_polls += 1
            raise

    @property
    def _page_url(self) -> str:
        return self.settings.url + "/federate"

    async def _pass_on(self, emit: Emit, page: Page, born: int, now: int, seconds: float) -> None:
        """Emit what a complete page of the wall time ``now`` (ns) holds. Nothing is awaited before it is adopted."""
        for batch in self._scrape.take(page, now):
            await emit(batch)
        samples = len(page.slots)
        await self._report(emit, now, up=True, seconds=seconds, samples=samples, left=samples, added=born)
        if born > _MANY:
            settle()

    async def _fetch(self, read: Read, enquiry: Enquiry, where: str) -> tuple[Page, int]:
        """Read one whole answer, and what its newcomers need; return it and how many those are.

        However it ends otherwise, ReceiveError or not, all of the answer is forgotten. Nothing is awaited between
        ``finish`` and ``take``: a page is adopted with its newcomers or not at all.
        """
        reader = self._scrape.read()
        try:
            await read(reader)
            born = self._scrape.newcomers
            if born:
                await enquiry.about(self._scrape)
            return self._scrape.finish(reader), born
        except BaseException as error:
            self._scrape.abandon(reader)
            if isinstance(error, Fault | BadPage | TooMuch):
                raise ReceiveError(_sentence(error, where)) from error
            raise

    async def _download(self, reader: Feeds) -> None:
        with deadline(self.settings.timeout, self._page_url):
            await self._read(reader, self._page_url)

    async def _read(self, reader: Feeds, url: str) -> None:
        params = [("match[]", selector) for selector in self.settings.match]
        async with self._client.get(url, params, {"accept": _ACCEPT}) as response:
            if response.status != 200:
                raise ReceiveError(await _refusal(response))
            _check_content_type(response)
            async for chunk in response.chunks(self.settings.max_body):
                reader.feed(chunk)

    async def _report(
        self, emit: Emit, now: int, *, up: bool, seconds: float, samples: int = 0, left: int = 0, added: int = 0
    ) -> None:
        if self.settings.scrape_metrics:
            batch = self._health.batch(now, up=up, seconds=seconds, samples=samples, left=left, added=added)
            self.counts.added["scrape"] += len(batch)
            await emit(batch)


def _sentence(error: Fault | BadPage | TooMuch, where: str) -> str:
    """Return the sentence for an answer that broke off, cannot be read, or is too much."""
    if isinstance(error, BadPage):
        return f"cannot read line {error.line_number} of {where}, {show(error.excerpt)}: {error.reason}"
    return f"cannot take the answer of {where}: {error}" if isinstance(error, TooMuch) else str(error)


def _check_content_type(response: Response) -> None:
    """A page that calls itself HTML or JSON is not metrics, whatever its lines look like."""
    content_type = response.headers.get("content-type", "")
    if content_type and not content_type.lower().startswith("text/plain"):
        raise ReceiveError(
            f"cannot read {response.url}: it answered {content_type[:80]!r} instead of text/plain; "
            "check that `url` is the base URL of a Prometheus server"
        )


async def _refusal(response: Response) -> str:
    """Return the sentence for an answer that is not 200."""
    status, where = response.status, response.url
    body = await excerpt(response, _EXCERPT)
    said = " ".join(body.split())[:200]
    why = f"the server answered {status}" + (f", {said!r}" if said else "")
    if status == 403 and "prometheus" not in body.lower():
        return forbidden(where)
    if status in (401, 403):
        return f"cannot read {where}: {why}; check bearer_token, basic_auth or tls, and what the server allows"
    if status == 400:
        return f"cannot read {where}: {why}; correct the selectors in `match`"
    if status == 404:
        return f"cannot read {where}: {why}; `url` must be the base URL of a Prometheus server, without /federate"
    if status == 503:
        stopping = response.headers.get("x-prometheus-stopping") == "true"
        return (
            f"cannot read {where}: {why}; Prometheus is {'stopping' if stopping else 'not ready yet'}, polling goes on"
        )
    if status >= 500:
        return f"cannot read {where}: {why}; look into the server's own log, polling goes on"
    return f"cannot read {where}: {why}; check `url`"
