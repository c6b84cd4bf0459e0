"""One target: asking it for its page, and what it means when it does not give one."""

from __future__ import annotations

import math
from typing import Literal

import trio

from ebbtide import Answer, Client, Fault, KeptGet, ReceiveError, deadline, safe_url
from receivers.negotiation import BadContentType, Format, accept_header, format_of
from receivers.page_source import PageSource
from receivers.policy import proxy_forbidden
from receivers.polling import PollingSettings
from receivers.proxy_pages import Answered, bug_of
from receivers.target_set import ScrapeTarget

Fallback = Literal["text", "openmetrics", "none"]

GONE = "gone"  # what a poll comes to whose target was lost meanwhile; it is not reported
_EXCERPT = 200  # characters of an error answer that are shown


class Asking:
    """How targets are asked, and what is taken from them: seconds, bytes, the format where none is named."""

    def __init__(self, timeout: float, max_body: int, fallback: Fallback):
        self.timeout = timeout
        self.max_body = max_body
        self.fallback = fallback
        self.headers = {"accept": accept_header(), "x-prometheus-scrape-timeout-seconds": f"{timeout:g}"}


class Clients:
    """What targets are asked by: one HTTP client for all that are dialled, and one for each cluster of port-forwards."""

    def __init__(self, options: PollingSettings):
        self._options = options
        self._by_cluster: dict[tuple[str, str], Client] = {}

    def of(self, target: ScrapeTarget) -> Client:
        """Return the client of a target."""
        client = self._by_cluster.get(target.cluster)
        if client is None:
            kubeconfig, context = target.cluster
            client = self._options.client(kubeconfig=kubeconfig or None, context=context or None)
            self._by_cluster[target.cluster] = client
        return client

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._by_cluster.values():
            await client.aclose()


class PolledTarget:
    """One target, and the connection to it. ``where`` shows its URL without secrets.

    ``polling``: at this moment; ``began``: when a poll last did, in trio's time, -infinity before the first.
    """

    def __init__(self, source: PageSource, url: str, client: Client):
        self.source = source
        self.url = url
        self.where = safe_url(url)
        self.polling = False
        self.began = -math.inf
        self._scope = trio.CancelScope()
        self._kept: KeptGet | None = None
        self._client = client

    async def poll(self, asking: Asking, when: int) -> Answered:
        """Ask for the page; ``when``: the wall time now, ns."""
        began = trio.current_time()
        answered = Answered(self.source, self.where, when, 0.0)
        try:
            with trio.CancelScope() as self._scope, deadline(asking.timeout, self.url):
                answered.body, answered.format = await self._ask(asking)
            if self._scope.cancelled_caught:
                answered.failure = GONE
        except (Fault, ReceiveError) as error:
            answered.failure = str(error)
        except Exception as bug:  # noqa: BLE001 - one target costs no other
            answered.failure, answered.bug = bug_of(answered.where), bug
            self._drop()
        answered.seconds = trio.current_time() - began
        return answered

    def close(self) -> None:
        """Let go of the connection; a poll that is under way ends."""
        if self.polling:
            self._scope.cancel()
        elif self._kept is not None:
            self._kept.close()

    def _drop(self) -> None:
        """Let go of a connection of which nobody knows in which state it is."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    async def _ask(self, asking: Asking) -> tuple[bytes, Format]:
        if self._kept is None:
            self._kept = KeptGet(self._client, self.url)
        answer = await self._kept.get(asking.headers, asking.max_body)
        if answer.status != 200:
            raise ReceiveError(refusal(answer, self.where, self.source.labels.get("namespace", "")))
        try:
            fallback = None if asking.fallback == "none" else asking.fallback
            return answer.body, format_of(answer.headers.get("content-type"), fallback)
        except BadContentType as error:
            raise ReceiveError(f"cannot read {self.where}: {error}") from None


def refusal(answer: Answer, where: str, namespace: str = "") -> str:
    """Return the sentence for an answer that is not 200; ``namespace``: of the target, where it is known.

    A proxy denies with 403, no content and no Content-Type: what Linkerd's policy does, not what an application says.
    """
    said = " ".join(answer.body[: 4 * _EXCERPT].decode(errors="replace").split())[:_EXCERPT]
    why = f"the target answered {answer.status}" + (f", {said!r}" if said else "")
    if answer.status == 403 and not said:
        return proxy_forbidden(where, namespace)
    if answer.status in (401, 403):
        return f"cannot read {where}: {why}; check bearer_token, basic_auth or tls, and what the target allows"
    if answer.status == 404:
        return f"cannot read {where}: {why}; check `path`, and the port: a proxy's metrics are on 4191"
    if answer.status in (301, 302, 303, 307, 308):
        return f"cannot read {where}: {why}, a redirect elsewhere or in a circle; name in `targets` where the page is"
    if answer.status >= 500:
        return f"cannot read {where}: {why}; look into the target's own log, polling goes on"
    return f"cannot read {where}: {why}; check `targets` and `path`"
