"""Selectors that a Prometheus server is asked by, looked at before they are sent: a mistake is told when the file is checked.

What is taken here is what Prometheus itself takes. ``match[]`` of /federate is read by the grammar alone, so it may select
all series; an expression of the query API may not.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from ebbtide import SelectorError, parse_selector


def _check(text: str, *, federated: bool) -> str:
    if not text.strip():
        raise ValueError("an empty selector; write one such as '{job=\"linkerd-proxy\"}'")
    try:
        parse_selector(text, federated=federated)
    except SelectorError as error:
        raise ValueError(f"not a selector: {error}; write one such as '{{job=\"linkerd-proxy\"}}'") from None
    return text


def _of_query(text: str) -> str:
    return _check(text, federated=False)


def _of_federation(text: str) -> str:
    return _check(text, federated=True)


QuerySelector = Annotated[str, AfterValidator(_of_query)]
"""A selector as part of an expression of the query API."""
FederatedSelector = Annotated[str, AfterValidator(_of_federation)]
"""A selector as a ``match[]`` of /federate."""


def ranged(selector: str, length: int) -> str:
    """Return the range selector over so many ms; a comment at the end of the selector must not swallow the range."""
    return f"{selector}\n[{length}ms]" if "#" in selector else f"{selector}[{length}ms]"
