"""The two forms of an OTLP request before compression, protobuf and JSON: making, joining, cutting. Sans-IO.

Every body is a whole request in its form, so that what is measured against a limit is what is sent: joined JSON is never
longer than its parts together. A form's ``growth`` is how many bytes a byte of a serialized request becomes, at most of
the time: what is to fit is laid out by it, before it is encoded. What makes JSON is imported when it is first needed: it
works on protobuf's classes, for which a start should not wait.
"""

from __future__ import annotations

from ebbtide import Payload
from exporters.otlp_answers import JSON, PROTOBUF
from exporters.otlp_json_cut import cut_json
from exporters.pieces import payloads
from exporters.wire import cut_payload

_OPEN, _CLOSE = b'{"resourceMetrics":[', b"]}"


class ProtobufForm:
    """Serialized ExportMetricsServiceRequests, which concatenate."""

    content_type = PROTOBUF
    growth = 1

    def make(self, body: bytes) -> bytes:
        """Return a serialized request in this form."""
        return body

    def adopt(self, body: bytes) -> bytes:
        """Return a request of either form in this one. No serialized request begins with a brace, the tag of a group."""
        if not body.startswith(b"{"):
            return body
        from exporters.otlp_json import from_json

        return from_json(body)

    def join(self, bodies: list[bytes]) -> bytes:
        """Make one request of several, in order."""
        return b"".join(bodies)

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut as ``wire.cut_payload`` does."""
        return cut_payload(payload, max_bytes)


class JsonForm:
    """OTLP JSON objects of one member, ``resourceMetrics``."""

    content_type = JSON
    growth = 3  # 1.9 to 2.9 for pages of proxies

    def make(self, body: bytes) -> bytes:
        """Return a serialized request in this form."""
        from exporters.otlp_json import to_json

        return to_json(body)

    def adopt(self, body: bytes) -> bytes:
        """Return a request of either form in this one."""
        return body if body.startswith(b"{") else self.make(body)

    def join(self, bodies: list[bytes]) -> bytes:
        """Make one request of several, in order."""
        inside = (body[len(_OPEN) : -len(_CLOSE)] for body in bodies if body.startswith(_OPEN))
        return _OPEN + b",".join(inside) + _CLOSE

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut into pieces of at most ``max_bytes``; a single point that is larger comes back alone."""
        return payloads(payload, cut_json(payload.body, max_bytes))


Form = ProtobufForm | JsonForm
