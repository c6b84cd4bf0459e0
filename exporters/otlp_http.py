"""Sending OTLP requests over HTTP."""

from __future__ import annotations

import ipaddress
import time
from urllib.parse import urlsplit

from ebbtide import (
    Client,
    Fault,
    Payload,
    Rejected,
    Retry,
    Secret,
    Tls,
    deadline,
    safe_url,
)
from exporters.otlp_answers import judge_http


class HttpSender:
    """One destination: POSTs sealed bodies over kept connections and judges the answers.

    Proxies of the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) are obeyed, but for a destination on loopback.
    """

    def __init__(
        self,
        url: str,
        *,
        content_type: str,
        content_encoding: str,
        headers: dict[str, Secret],
        tls: Tls,
        timeout: float,
        max_response: int,
        user_agent: str,
    ):
        self.where = safe_url(url)
        self._url = url
        self._headers = {"content-type": content_type}
        if content_encoding:
            self._headers["content-encoding"] = content_encoding
        self._timeout = timeout
        self._max_response = max_response
        self._client = Client(
            headers=headers,
            tls=tls,
            trust_env=not _is_loopback(urlsplit(url).hostname or ""),
            connect_timeout=timeout,
            user_agent=user_agent,
        )

    async def send(self, payload: Payload) -> str | None:
        """Send one request; return a sentence to warn of, if any. Raises ``Retry``, ``Rejected``, ``TooLarge``."""
        try:
            with deadline(self._timeout, self._url):
                answer = await self._client.post(
                    self._url, payload.body, headers=self._headers, max_response=self._max_response
                )
        except Fault as fault:
            if fault.kind == "too_large":  # the specification: a failure that is not to be retried
                raise Rejected(None, str(fault)) from fault
            raise Retry(None, str(fault)) from fault
        warning = judge_http(answer.status, answer.headers, answer.body, payload.points, self.where, time.time())
        return f"{answer.fault}; it is taken for success" if answer.fault else warning

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
