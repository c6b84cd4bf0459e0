"""The two forms of an OTLP request before compression, protobuf and JSON: making, joining, cutting. Sans-IO.

Every body is a whole request in its form, so that what is measured against a limit is what is sent: joined JSON is never
longer than its parts together.
"""

from __future__ import annotations

from ebbtide import Payload
from exporters.otlp_answers import JSON, PROTOBUF
from exporters.wire import cut_payload, from_json, to_json

_OPEN, _CLOSE = b'{"resourceMetrics":[', b"]}"
_SHRINK = 0.9  # of the limit at each further try to cut JSON, whose size is only estimated


class ProtobufForm:
    """Serialized ExportMetricsServiceRequests, which concatenate."""

    content_type = PROTOBUF

    def make(self, body: bytes) -> bytes:
        """Return a serialized request in this form."""
        return body

    def join(self, bodies: list[bytes]) -> bytes:
        """Make one request of several, in order."""
        return b"".join(bodies)

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut as ``wire.cut_payload`` does."""
        return cut_payload(payload, max_bytes)


class JsonForm:
    """OTLP JSON objects of one member, ``resourceMetrics``."""

    content_type = JSON

    def make(self, body: bytes) -> bytes:
        """Return a serialized request in this form."""
        return to_json(body)

    def join(self, bodies: list[bytes]) -> bytes:
        """Make one request of several, in order."""
        inside = (body[len(_OPEN) : -len(_CLOSE)] for body in bodies if body.startswith(_OPEN))
        return _OPEN + b",".join(inside) + _CLOSE

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut into pieces of at most ``max_bytes`` of JSON; a single point that is larger comes back alone."""
        body = from_json(payload.body)
        return self._cut(Payload(payload.key, body, payload.points, payload.samples), len(payload.body), max_bytes)

    def _cut(self, payload: Payload, size: int, max_bytes: int) -> list[Payload]:
        """Cut serialized requests, at the size at which their JSON should fit; again where it does not."""
        limit = int(len(payload.body) * _SHRINK * max_bytes / size)
        done: list[Payload] = []
        for piece in cut_payload(payload, limit):
            text = to_json(piece.body)
            if len(text) <= max_bytes or len(piece.body) >= len(payload.body):
                done.append(Payload(piece.key, text, piece.points, piece.samples))
            else:
                done.extend(self._cut(piece, len(text), max_bytes))
        return done


Form = ProtobufForm | JsonForm
