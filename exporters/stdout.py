"""The exporter "stdout": points for eyes, or OTLP JSON for programs, one request a line.

Strategy. Payloads are OTLP requests as for any backend, so that joining, cutting and counting are the same; sealing
turns them into what is printed. Writing happens in one worker thread with a limiter of its own: a slow pipe holds back
this exporter's outbox, and nothing else. A second write waits for the first even where that was given up.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
from collections.abc import Iterable
from typing import Literal

import trio

from ebbtide import Batch, ClosedOutput, Context, Exporter, Payload, Retry, Settings, option
from exporters.otlp_json import from_json, to_json
from exporters.otlp_template import encode
from exporters.text import Style, render
from exporters.wire import cut_payload

STANDARD_OUTPUT = 1
_CLOSED = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ECONNRESET}  # a reader gone, a terminal hung up


class StdoutSettings(Settings):
    """Options of the exporter "stdout"."""

    format: Literal["text", "otlp_json"] = option(
        "text", '"text": aligned lines for eyes; "otlp_json": one ExportMetricsServiceRequest a line, for jq.'
    )


class Stdout(Exporter[StdoutSettings]):
    """Writes points to standard output, as text for eyes or as OTLP JSON lines."""

    Settings = StdoutSettings

    def __init__(
        self, settings: StdoutSettings | None = None, context: Context | None = None, descriptor: int = STANDARD_OUTPUT
    ):
        super().__init__(settings, context)
        self._descriptor = descriptor
        self._writer = trio.CapacityLimiter(1)

    def encode(self, batch: Batch) -> Iterable[Payload]:
        """Encode as one OTLP request."""
        encoded = encode(batch)
        if encoded.incomplete:
            self.counts.dropped["incomplete"] += encoded.incomplete
        if encoded.points:
            yield Payload(b"", encoded.body, encoded.points, encoded.samples)

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut as an OTLP request is cut."""
        return cut_payload(payload, max_bytes)

    def seal(self, body: bytes) -> bytes:
        """Turn the request into what is printed."""
        if self.settings.format == "otlp_json":
            return to_json(body) + b"\n"
        return render(body, terminal_style(self._descriptor)).encode()

    def unseal(self, body: bytes) -> bytes:
        """Read a JSON line back. Text cannot be read back; nothing asks for it, as no text is ever too large."""
        if self.settings.format == "otlp_json":
            return from_json(body)
        raise ValueError("cannot read back points that were rendered as text")

    async def send(self, payload: Payload) -> None:
        """Write the payload whole; raise ``ClosedOutput`` when nobody reads any more, ``Retry`` for a full disk."""
        rest = _Rest(payload.body)
        try:
            await trio.to_thread.run_sync(rest.write, self._descriptor, limiter=self._writer, abandon_on_cancel=True)
        except OSError as error:
            if error.errno in _CLOSED:
                raise ClosedOutput(f"standard output is closed ({error.strerror})") from error
            raise Retry(None, f"cannot write to standard output: {error.strerror}; free some space") from error


class _Rest:
    """What is still to be written: a write may take less than it is given."""

    def __init__(self, body: bytes):
        self._view = memoryview(body)

    def write(self, descriptor: int) -> None:
        """Write all of it; blocks, so call it in a thread."""
        while self._view:
            try:
                self._view = self._view[os.write(descriptor, self._view) :]
            except BlockingIOError:  # someone else made the pipe or terminal non-blocking
                _wait_writable(descriptor)


def _wait_writable(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def terminal_style(descriptor: int) -> Style:
    """Colours and the width of a terminal; plain and uncut for all else. NO_COLOR and TERM=dumb turn colours off."""
    if not os.isatty(descriptor):
        return Style()
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(colour, shutil.get_terminal_size((100, 24)).columns)
