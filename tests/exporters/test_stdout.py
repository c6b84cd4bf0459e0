"""The exporter "stdout" over real pipes: order, slow readers, gone readers."""

from __future__ import annotations

import fcntl
import json
import os
import pty
from collections.abc import Iterator

import pytest
import trio
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.testing import comparable, reference_request
from ebbtide import Batch, ClosedOutput, Payload, Retry
from exporters.otlp_json import from_json
from exporters.stdout import Stdout, StdoutSettings, terminal_style
from exporters.text import Style, render


class Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def close_reader(self) -> None:
        os.close(self.reader)
        self.reader = -1

    def close(self) -> None:
        for descriptor in (self.reader, self.writer):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def payload(body: bytes) -> Payload:
    return Payload(b"", body, 1, 1)


async def test_text(pipe, batch: Batch):
    stdout = Stdout(descriptor=pipe.writer)
    (encoded,) = stdout.encode(batch)
    assert (encoded.points, encoded.samples) == (22, len(batch))
    await stdout.send(payload(stdout.seal(encoded.body)))
    assert os.read(pipe.reader, 1 << 16).decode() == render(encoded.body)
    assert comparable(ExportMetricsServiceRequest.FromString(encoded.body)) == comparable(reference_request(batch))


async def test_otlp_json_is_one_request_a_line(pipe, batch: Batch):
    stdout = Stdout(StdoutSettings(format="otlp_json"), descriptor=pipe.writer)
    (encoded,) = stdout.encode(batch)
    for _ in range(2):
        await stdout.send(payload(stdout.seal(encoded.body)))
    lines = os.read(pipe.reader, 1 << 16).splitlines(keepends=True)
    assert len(lines) == 2
    assert all(line.endswith(b"\n") for line in lines)
    assert json.loads(lines[0])["resourceMetrics"]
    body = ExportMetricsServiceRequest.FromString(from_json(lines[1]))
    assert comparable(body) == comparable(reference_request(batch))
    assert stdout.unseal(lines[0]) == from_json(lines[0])


def test_what_is_incomplete_is_counted(batch: Batch):
    stdout = Stdout()
    rows = [row for row, series in enumerate(batch.table) if series.name == "response_latency_ms_bucket"]
    assert list(stdout.encode(batch.take(rows))) == []
    assert stdout.counts.dropped["incomplete"] == len(rows)


def test_cut(batch: Batch):
    stdout = Stdout()
    (encoded,) = stdout.encode(batch)
    pieces = stdout.cut(encoded, 1000)
    assert sum(piece.samples for piece in pieces) == len(batch)
    assert all(len(piece.body) <= 1000 for piece in pieces)


def test_text_is_not_read_back():
    with pytest.raises(ValueError, match="cannot read back"):
        Stdout().unseal(b"")


async def test_a_slow_reader_does_not_hold_up_the_loop(nursery, pipe):
    stdout = Stdout(descriptor=pipe.writer)
    body = bytes(i % 251 for i in range(1 << 20))
    got = bytearray()

    async def write() -> None:
        await stdout.send(payload(body))
        await stdout.send(payload(b"end"))

    nursery.start_soon(write)
    for _ in range(100):
        await trio.lowlevel.checkpoint()  # the loop runs on while the pipe is full
    while not got.endswith(b"end"):
        got += await trio.to_thread.run_sync(os.read, pipe.reader, 1 << 16)
    assert bytes(got) == body + b"end"


async def test_a_write_given_up_is_finished_before_the_next(pipe):
    stdout = Stdout(descriptor=pipe.writer)
    size = fcntl.fcntl(pipe.writer, fcntl.F_GETPIPE_SZ) + 10
    with trio.move_on_after(0.05) as scope:
        await stdout.send(payload(b"a" * size))
    assert scope.cancelled_caught
    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stdout.send, payload(b"b"))
        while not got.endswith(b"b"):
            got += await trio.to_thread.run_sync(os.read, pipe.reader, 1 << 16)
    assert bytes(got) == b"a" * size + b"b"


async def test_a_pipe_that_someone_made_non_blocking(nursery, pipe):
    os.set_blocking(pipe.writer, False)
    stdout = Stdout(descriptor=pipe.writer)
    body = bytes(1 << 20)
    nursery.start_soon(stdout.send, payload(body))
    size = 0
    while size < len(body):
        size += len(await trio.to_thread.run_sync(os.read, pipe.reader, 1 << 16))
    assert size == len(body)


async def test_a_closed_pipe_is_a_closed_output(pipe):
    pipe.close_reader()
    with pytest.raises(ClosedOutput, match="Broken pipe"):
        await Stdout(descriptor=pipe.writer).send(payload(b"x"))


async def test_a_closed_descriptor_is_a_closed_output(pipe):
    os.close(pipe.writer)
    closed, pipe.writer = pipe.writer, -1
    with pytest.raises(ClosedOutput):
        await Stdout(descriptor=closed).send(payload(b"x"))


async def test_a_full_disk_is_tried_again():
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(Retry, match="No space left"):
            await Stdout(descriptor=full).send(payload(b"x"))
    finally:
        os.close(full)


def test_colours_only_on_a_terminal(pipe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    controller, terminal = pty.openpty()
    try:
        assert terminal_style(terminal) == Style(True, 90)
        assert terminal_style(pipe.writer) == Style(False, None)
        monkeypatch.setenv("NO_COLOR", "1")
        assert terminal_style(terminal) == Style(False, 90)
        monkeypatch.setenv("NO_COLOR", "")
        assert terminal_style(terminal) == Style(True, 90)
        monkeypatch.setenv("TERM", "dumb")
        assert terminal_style(terminal) == Style(False, 90)
    finally:
        os.close(controller)
        os.close(terminal)
