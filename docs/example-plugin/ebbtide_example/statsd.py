"""The exporter "statsd": every row is a gauge, one line of a datagram."""

from __future__ import annotations

import math
from collections.abc import Iterable

import trio

from ebbtide import Batch, ConfigError, Context, Exporter, Payload, Retry, Row, Settings, TooLarge, option

LARGEST = 65_507  # bytes in one UDP datagram over IPv4


class StatsdSettings(Settings):
    """Options of the exporter "statsd"."""

    address: str = option("127.0.0.1:8125", "Host and port that listen for datagrams.")
    prefix: str = option("", "Stands before every name.", examples=["linkerd."])


class Statsd(Exporter[StatsdSettings]):
    """Sends every sample as a gauge, with DogStatsD's tags, by UDP."""

    Settings = StatsdSettings

    def __init__(self, settings: StatsdSettings | None = None, context: Context | None = None):
        super().__init__(settings, context)
        host, colon, port = self.settings.address.rpartition(":")
        if not (host and colon and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise ConfigError('cannot use this address; write one such as "127.0.0.1:8125"', "address")
        self._address = host, int(port)
        self._socket: trio.socket.SocketType | None = None

    def encode(self, batch: Batch) -> Iterable[Payload]:
        """One line a row. What statsd has no words for is dropped, and counted by its reason."""
        lines = []
        for row in batch.rows():
            if row.stale or not math.isfinite(row.value):
                self.counts.dropped["ended" if row.stale else "not_finite"] += 1
            else:
                lines.append(self._line(row))
        if lines:
            yield _payload(lines)

    def _line(self, row: Row) -> bytes:
        tags = ",".join(f"{_plain(name)}:{_plain(value)}" for name, value in row.series.labels.items())
        line = f"{self.settings.prefix}{_plain(row.series.name)}:{row.value!r}|g"
        return (f"{line}|#{tags}" if tags else line).encode() + b"\n"

    def cut(self, payload: Payload, max_bytes: int) -> list[Payload]:
        """Cut between lines: as many in each piece as fit."""
        pieces: list[list[bytes]] = []
        room = -1
        for line in payload.body.splitlines(keepends=True):
            room -= len(line)
            if room < 0:
                pieces.append([])
                room = max_bytes - len(line)
            pieces[-1].append(line)
        return [_payload(piece) for piece in pieces]

    async def send(self, payload: Payload) -> None:
        """Send one datagram. A larger one is cut by the agent, which learns from TooLarge what fits."""
        if len(payload.body) > LARGEST:
            raise TooLarge(f"a datagram holds {LARGEST} bytes")
        try:
            if self._socket is None:
                self._socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
                await self._socket.connect(self._address)
            await self._socket.send(payload.body)
        except OSError as error:
            await self.aclose()
            raise Retry(None, f"cannot send to {self.settings.address}: {error}; see whether it listens") from error

    async def aclose(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        await trio.lowlevel.checkpoint()


def _payload(lines: list[bytes]) -> Payload:
    return Payload(b"", b"".join(lines), points=len(lines), samples=len(lines))


def _plain(text: str) -> str:
    """A name or value without the characters that statsd keeps for itself."""
    return "".join("_" if char in ":|,#@" or not char.isprintable() else char for char in text)
