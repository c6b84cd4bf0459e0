"""What remote write is answered, by its specifications. Sans-IO.

Source: "Prometheus Remote-Write 1.0" and "2.0" (prometheus.io/docs/specs/prw): 2xx is taken, 5xx (and 429) comes again, any
other 4xx is final, and its reason is for the sender's log. Of a request that was taken in part the rest is named by a 400
and, in 2.0, counted by the ``X-Prometheus-Remote-Write-*-Written`` headers.
"""

from __future__ import annotations

from ebbtide import HttpAnswer, HttpRequest
from receivers.remote_write_samples import Decoded

Headers = tuple[tuple[str, str], ...]

PROTOBUF = "application/x-protobuf"
MESSAGES = {"prometheus.WriteRequest": 1, "io.prometheus.write.v2.Request": 2}
"""Message, as the Content-Type names it -> version; without a name it is 1.0."""

MAX_REASON = 1024
"""Characters of the reasons in an answer; Prometheus logs no more."""
_WRITTEN = "X-Prometheus-Remote-Write-{}-Written"


class Unacceptable(Exception):
    """A request in a form that is not taken: 415, and the reason."""


def version_of(request: HttpRequest) -> int:
    """Return the version of a request by its Content-Type. Raises Unacceptable."""
    content_type = request.header("content-type")
    media, *parameters = (part.strip() for part in (content_type or PROTOBUF).split(";"))
    if media.lower() != PROTOBUF:
        raise Unacceptable(f"the Content-Type is {content_type[:80]!r}; send {PROTOBUF}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "proto":
            message = value.strip().strip('"')
            if message not in MESSAGES:
                raise Unacceptable(f"the message {message[:80]!r} is not known; send {' or '.join(MESSAGES)}")
            return MESSAGES[message]
    return 1


def check_encoding(request: HttpRequest) -> None:
    """Raise Unacceptable for a body in anything but snappy's block format; both versions demand that."""
    coding = request.header("content-encoding").strip().lower()
    if coding not in ("", "snappy"):
        raise Unacceptable(f"the Content-Encoding is {coding[:80]!r}; send snappy")


def taken(version: int, request: Decoded) -> HttpAnswer:
    """Answer a request that is taken, in whole or, where series were refused, in part."""
    written: Headers = ()
    if version == 2:
        samples = len(request.slots) - request.histograms
        counts = {"Samples": samples, "Histograms": request.histograms, "Exemplars": len(request.exemplars)}
        written = tuple((_WRITTEN.format(name), str(count)) for name, count in counts.items())
    if not request.refused:
        return HttpAnswer(204, content_type="", headers=written)
    more = request.refused - len(request.reasons)
    reasons = "; ".join(dict.fromkeys(request.reasons)) + (f"; {more} more" if more > 0 else "")
    return _text(400, f"{request.refused} samples are refused, all others taken: {reasons}", written)


def refused(version: int, status: int, why: str) -> HttpAnswer:
    """Answer a request of which nothing is taken, for good."""
    headers: Headers = ()
    if version == 2:
        headers = tuple((_WRITTEN.format(name), "0") for name in ("Samples", "Histograms", "Exemplars"))
    return _text(status, why, headers)


def later(seconds: int, why: str) -> HttpAnswer:
    """Answer that the request should come again, not before so many seconds."""
    return _text(503, why, (("Retry-After", str(seconds)),))


def unauthorized(scheme: str) -> HttpAnswer:
    """Answer a client that does not say who it is, or is not let in."""
    return _text(401, "who writes here must say who it is", (("WWW-Authenticate", f'{scheme} realm="ebbtide"'),))


def not_here(request: HttpRequest, path: str) -> HttpAnswer | None:
    """Answer what is none of ours: another path or method. None for what is."""
    if request.path != path:
        return _text(404, f"nothing is taken here; remote write is at {path}", ())
    if request.method != "POST":
        return _text(405, "remote write is sent by POST", (("Allow", "POST"),))
    return None


def _text(status: int, why: str, headers: Headers) -> HttpAnswer:
    return HttpAnswer(status, f"{why[:MAX_REASON]}\n".encode(errors="replace"), headers=headers)
