"""What is sent: types, compression, paths, sizes, cuts, who says so; and that queues are apart and drained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.outbox import Outbox
from agent.settings import OutboxSettings
from agent.testing import comparable, reference_request
from ebbtide import Batch, ConfigError, TooLarge
from exporters.otlp import OTLP_USER_AGENT, OtlpSettings
from exporters.wire import count
from tests.compliance.destination import BUSY, TOO_LARGE, Answer, Destination, deliver, exporter, sealed
from tests.compliance.rules import GRPC, HTTP, JSON, PROTOBUF, PROTOCOLS, rule

over_http = pytest.mark.parametrize("protocol", HTTP)


def together(destination: Destination) -> Any:
    """All requests as one: serialized requests concatenate."""
    return ExportMetricsServiceRequest.FromString(b"".join(r.SerializeToString() for r in destination.decoded()))


@rule("11.1")
async def test_the_request(destination, batch):
    await deliver(destination, [batch])
    assert comparable(together(destination)) == comparable(reference_request(batch))
    (_, headers), = destination.requests  # fmt: skip
    if destination.protocol != GRPC:  # grpcio's server hands out no content-type; it takes no other
        expected = {PROTOBUF: "application/x-protobuf", JSON: "application/json"}
        assert headers["content-type"] == expected[destination.protocol]


@rule("11.2")
@rule("18.1")
@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_compression(destination, batch, compression):
    async with exporter(destination, compression=compression) as otlp:
        await otlp.send(sealed(otlp, batch))
    assert comparable(together(destination)) == comparable(reference_request(batch))
    if destination.protocol != GRPC:
        said = destination.requests[0][1].get("content-encoding")
        assert said == (None if compression == "none" else "gzip")
        assert destination._http
        assert destination._http.requests[0].body.startswith(b"\x1f\x8b") is (compression == "gzip")


@rule("11.2", GRPC)
@pytest.mark.parametrize(("compression", "flag", "named"), [("gzip", 1, True), ("none", 0, False)])
async def test_compression_on_the_wire_of_grpc(nursery, batch, compression, flag, named):
    """The first byte of a message says whether it is compressed, and a header how."""
    from tests.compliance.servers import Http2Calls, response, serve_connections

    seen: list[bytes] = []

    async def taken(stream: trio.SocketStream) -> None:
        calls = Http2Calls(stream)
        await calls.begin()
        number = await calls.next()
        seen.append(calls.message)
        await stream.send_all(response(number))
        await calls.next()

    port = await serve_connections(nursery, taken)
    options = {"protocol": GRPC, "compression": compression}
    async with exporter(endpoint=f"http://127.0.0.1:{port}", **options) as otlp:
        await otlp.send(sealed(otlp, batch))
    assert seen[0][0] == flag
    assert (b"\x1f\x8b" in seen[0][:8]) is named


@rule("18.2")
@over_http
async def test_zstd(destination, batch):
    zstd = pytest.importorskip("backports.zstd", reason="no zstd library is installed: pip install 'ebbtide[zstd]'")
    async with exporter(destination, compression="zstd") as otlp:
        await otlp.send(sealed(otlp, batch))
        small = exporter(destination, compression="zstd", max_request="100B")
        with pytest.raises(TooLarge):
            await small.send(sealed(small, batch))
    assert destination._http
    (request,) = destination._http.requests
    assert request.headers["content-encoding"] == "zstd"
    assert zstd.decompress(request.body) == otlp.unseal(sealed(otlp, batch).body)


def test_grpc_has_no_zstd():
    with pytest.raises(ConfigError, match="cannot compress with zstd by gRPC") as caught:
        exporter(protocol=GRPC, compression="zstd")
    assert caught.value.option == "compression"


@rule("13.1")
@over_http
def test_the_default_path(protocol):
    for endpoint in ("http://c:1", "http://c:1/"):
        assert exporter(protocol=protocol, endpoint=endpoint)._sender.where == "http://c:1/v1/metrics"


@rule("13.2")
def test_the_default_port(protocol):
    expected = "localhost:4317" if protocol == GRPC else "http://localhost:4318/v1/metrics"
    assert exporter(protocol=protocol)._sender.where == expected


@rule("14.1", *PROTOCOLS)
@rule("14.4", *PROTOCOLS)
def test_limits_are_options():
    assert (OtlpSettings().max_request, OtlpSettings().max_response) == (67_108_864, 4_194_304)


@rule("14.2")
@pytest.mark.parametrize("bound", [{"max_request": "1500B"}, {"batch": {"max_bytes": "1500B", "linger": "0s"}}])
async def test_no_request_is_larger_than_allowed(destination, batch, bound):
    got = await deliver(destination, [batch], **bound)
    assert comparable(together(destination)) == comparable(reference_request(batch))
    assert max(len(body) for body, _ in destination.requests) <= 1500
    assert len(got.attempts) == len(destination.requests)  # it is known beforehand: none is made in vain
    assert (got.counts.sent, got.counts.points_sent) == (len(batch), 22)


@rule("14.3")
async def test_a_point_that_does_not_fit_is_dropped_alone(destination, batch):
    bound = "720B" if destination.protocol == JSON else "300B"
    got = await deliver(destination, [batch], max_request=bound)
    dropped = got.counts.dropped["too_large"]
    assert 0 < dropped < len(batch)
    assert got.counts.sent == len(batch) - dropped
    assert all(len(body) <= int(bound[:-1]) for body, _ in destination.requests)
    sent = sum(count(request.SerializeToString())[1] for request in destination.decoded())
    assert sent == got.counts.sent


@rule("14.5")
async def test_what_the_server_calls_too_large_is_cut_until_it_fits(destination, batch):
    destination.script = [TOO_LARGE] * 2
    got = await deliver(destination, [batch])
    sizes = [len(body) for body, _ in destination.requests]
    assert sizes[0] > sizes[1] > sizes[2]
    assert (got.counts.sent, got.counts.points_sent, got.counts.dropped.total()) == (len(batch), 22, 0)
    assert got.counts.retries == 0


@rule("14.5")
@rule("14.3")
async def test_down_to_one_point(destination, batch):
    """A server to which everything is too large: each point is offered alone once, and dropped."""
    destination.script = [TOO_LARGE] * 1000
    got = await deliver(destination, [batch])
    assert (got.counts.sent, got.counts.dropped["too_large"]) == (0, len(batch))
    alone = [request for request in destination.decoded() if count(request.SerializeToString())[0] == 1]
    assert len(alone) >= 22
    assert len(destination.requests) < 100


@rule("14.5", GRPC)
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (10 vs. 4)"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4: 10"),
        ("OUT_OF_RANGE", "Error, message length too large: found 10 bytes, the limit is: 4 bytes"),
    ],
)
async def test_the_words_of_other_servers(nursery, batch, code, said):
    destination = Destination(GRPC)
    await destination.open(nursery)
    destination.script = [Answer(code=code, message=said)]
    got = await deliver(destination, [batch])
    destination.close()
    assert (got.counts.sent, got.counts.requests) == (len(batch), 4)  # one resource is larger than the half of both


@rule("15.2")
async def test_a_slow_destination_holds_up_no_other(protocol, nursery, batch):
    hanging, well = Destination(protocol), Destination(protocol)
    for one in (hanging, well):
        await one.open(nursery)
    hanging.script = [BUSY] * 1000
    async with exporter(hanging) as slow, exporter(well) as quick, trio.open_nursery() as senders:
        boxes = [Outbox(otlp, OutboxSettings(), otlp.counts) for otlp in (slow, quick)]
        finished = trio.Event()

        async def run_quick() -> None:
            await boxes[1].run()
            finished.set()

        senders.start_soon(boxes[0].run)
        senders.start_soon(run_quick)
        for _ in range(3):
            for box in boxes:
                box.put(batch)
        boxes[1].close()
        with trio.fail_after(5):
            await finished.wait()
        assert (slow.counts.sent, boxes[0].held(), quick.counts.sent) == (0, 3 * len(batch), 3 * len(batch))
        senders.cancel_scope.cancel()
    hanging.close()
    well.close()


def shells(request: Any) -> Iterator[int]:
    """How many are in each resource, scope and metric."""
    for resource in request.resource_metrics:
        yield len(resource.scope_metrics)
        for scope in resource.scope_metrics:
            yield len(scope.metrics)
            for metric in scope.metrics:
                yield len(getattr(metric, metric.WhichOneof("data")).data_points)


@rule("16")
async def test_nothing_is_empty(destination, batch):
    await deliver(destination, [batch], max_request="1500B")
    await deliver(destination, [batch])
    assert min(number for request in destination.decoded() for number in shells(request)) > 0
    without_counts = batch.take([row for row, s in enumerate(batch.table) if s.name.endswith("_bucket")])
    before = len(destination.requests)
    got = await deliver(destination, [without_counts])
    assert (len(destination.requests), got.counts.dropped["incomplete"]) == (before, len(without_counts))
    assert list(exporter(destination).encode(Batch.of([]))) == []


@rule("17")
async def test_a_stop_waits_for_what_is_held(clock, destination, batch):
    """Closed with a request in back-off and one behind it: both are sent before the sender ends."""
    destination.script = [BUSY] * 2
    async with exporter(destination) as otlp:
        box = Outbox(otlp, OutboxSettings(), otlp.counts)
        box.put(batch)
        box.put(batch)
        box.close()
        await box.run()
        assert (otlp.counts.sent, box.held()) == (2 * len(batch), 0)


@rule("17")
async def test_what_the_deadline_leaves_is_recorded(clock, destination, batch):
    destination.script = [BUSY] * 1000
    async with exporter(destination) as otlp:
        box = Outbox(otlp, OutboxSettings(), otlp.counts)
        box.put(batch)
        box.close()
        with trio.move_on_after(10):
            await box.run()
        box.abandon()
        assert (otlp.counts.dropped["shutdown"], box.held()) == (len(batch), 0)


@rule("19")
async def test_who_sends(destination, batch):
    await deliver(destination, [batch])
    said = destination.requests[0][1]["user-agent"]
    assert said.startswith(OTLP_USER_AGENT)
    product, exporter_name = OTLP_USER_AGENT.split(" ")
    assert product.startswith("ebbtide/")
    assert exporter_name == f"OTel-OTLP-Exporter-Python/{product.partition('/')[2]}"


@rule("20.2")
async def test_a_stream_that_ended(destination, batch):
    await deliver(destination, [batch])
    gone = [
        metric.gauge.data_points[0]
        for resource in together(destination).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "gone"
    ]
    assert [point.flags for point in gone] == [1, 1]


@rule("12.1", JSON)
@rule("12.2", JSON)
@rule("12.4", JSON)
async def test_json_on_the_wire(nursery, batch):

    destination = Destination(JSON)
    await destination.open(nursery)
    await deliver(destination, [batch])
    text = destination.requests[0][0]
    assert b"_" not in b"".join(json.dumps(key).encode() for key in keys(json.loads(text)))
    assert b'"aggregationTemporality":2' in text
    assert b'"timeUnixNano":"' in text


def keys(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        yield from tree
        for value in tree.values():
            yield from keys(value)
    elif isinstance(tree, list):
        for item in tree:
            yield from keys(item)
