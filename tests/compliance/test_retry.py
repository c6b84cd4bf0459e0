"""What is tried again, when, and what never is: the real exporter behind its outbox, on a virtual clock."""

from __future__ import annotations

import random
from email.utils import formatdate

import grpc
import pytest

from agent.scripted import answer
from ebbtide import Rejected, Retry, TooLarge
from exporters.otlp_answers import MAX_WAIT, RETRYABLE_CODES
from tests.compliance.destination import BUSY, REFUSED, TAKEN, Answer, deliver, exporter, retry_info, sealed
from tests.compliance.rules import GRPC, HTTP, PROTOBUF, rule

over_http = pytest.mark.parametrize("protocol", HTTP)
by_grpc = pytest.mark.parametrize("protocol", [GRPC])

CODES = {code.value[0]: code.name for code in grpc.StatusCode if code.name != "OK"}
INFO = retry_info(7)


@rule("1")
@rule("2.1")
@rule("2.2")
@rule("3.1")
@by_grpc
async def test_every_code(clock, destination, batch):
    """0 to 16, without RetryInfo and with it: what is raised, and that nothing but the list is tried again."""
    assert sorted(CODES) == list(range(1, 17))
    async with exporter(destination) as otlp:
        payload = sealed(otlp, batch)
        destination.script = [TAKEN]
        await otlp.send(payload)
        for name in CODES.values():
            for details in (None, INFO):
                destination.script = [Answer(code=name, message="because", details=details)]
                again = name in RETRYABLE_CODES or (name == "RESOURCE_EXHAUSTED" and details == INFO)
                with pytest.raises(Retry if again else Rejected, match=f'gRPC {name}, "because"') as caught:
                    await otlp.send(payload)
                if isinstance(caught.value, Retry):
                    assert caught.value.after == (7.0 if details else None)
                else:
                    assert caught.value.points is None


@rule("5.1")
@rule("5.2")
@over_http
async def test_every_status(clock, destination, batch):
    """200 to 599, and 100 before 200."""
    async with exporter(destination) as otlp:
        payload = sealed(otlp, batch)
        for status in range(200, 600):
            destination.script = [Answer(status, raw=b"")]
            if status < 300:
                await otlp.send(payload)
                continue
            expected = Retry if status in (429, 502, 503, 504) else TooLarge if status == 413 else Rejected
            with pytest.raises(expected, match=f"HTTP {status}"):
                await otlp.send(payload)
    assert len(destination.requests) == 400


@rule("5.2", PROTOBUF)
@pytest.mark.parametrize("interim", [100, 102, 103])
async def test_interim_answers_are_passed_over(nursery, batch, interim):
    from agent.scripted import serve

    head = f"HTTP/1.1 {interim} X\r\n\r\n".encode()
    server = await serve(nursery, [head + answer(200, b"", {"Content-Type": "application/x-protobuf"})])
    async with exporter(endpoint=server.url) as otlp:
        await otlp.send(sealed(otlp, batch))


@rule("1")
@rule("3.1")
@rule("3.2")
@by_grpc
async def test_codes_in_the_ledger(clock, destination, batch):
    destination.script = [Answer(code=name) for name in [*sorted(RETRYABLE_CODES), "INTERNAL"]]
    got = await deliver(destination, [batch, batch])
    assert len({body for _, body in got.attempts}) == 1
    assert (got.counts.sent, got.counts.dropped["rejected"]) == (len(batch), len(batch))
    assert (got.counts.requests, got.counts.retries) == (8, 6)


@rule("5.1")
@rule("5.2")
@rule("5.3")
@rule("3.2")
@over_http
@pytest.mark.parametrize("final", [400, 401, 404, 408, 500, 501, 505])
async def test_statuses_in_the_ledger(clock, destination, batch, final):
    destination.script = [Answer(status) for status in (429, 502, 503, 504, final)]
    got = await deliver(destination, [batch, batch])
    assert (got.counts.sent, got.counts.dropped["rejected"]) == (len(batch), len(batch))
    assert (got.counts.requests, got.counts.retries) == (6, 4)


@rule("7.1")
async def test_backoff_grows_to_its_cap_and_begins_anew(clock, destination, batch):
    destination.script = [BUSY] * 5 + [TAKEN] + [BUSY] * 2
    got = await deliver(destination, [batch], retry={"initial": "1s", "max": "6s"})
    assert got.waits == [1, 2, 4, 6, 6]
    again = await deliver(destination, [batch], retry={"initial": "1s", "max": "6s"})
    assert again.waits == [1, 2]


@rule("7.2")
async def test_backoff_has_jitter(clock, destination, batch):
    destination.script = [BUSY] * 4
    got = await deliver(destination, [batch], jitter=random.Random(1).uniform)
    assert all(full / 2 <= wait <= full for wait, full in zip(got.waits, [1, 2, 4, 8], strict=True))
    assert all(wait != full for wait, full in zip(got.waits, [1, 2, 4, 8], strict=True))


@rule("4.2")
async def test_a_delay_that_is_asked_for_is_waited_for_and_grows(clock, destination, batch):
    destination.script = [Answer(503, "UNAVAILABLE", after=7)] + [BUSY] * 3
    got = await deliver(destination, [batch], jitter=lambda low, high: low)
    assert got.waits == [7, 7, 14, 15]  # half of 14, 28 and 30, the cap, by the shortest jitter


@rule("6.1")
@over_http
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds(clock, destination, batch, status):
    destination.script = [Answer(status, after=7), Answer(status, after=0)]
    got = await deliver(destination, [batch])
    assert got.waits == [7, 14]


@rule("6.2")
@over_http
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_as_a_date(nursery, protocol, batch, status, monkeypatch):
    monkeypatch.setattr("exporters.otlp_http.time.time", lambda: 1_763_879_000.0)
    for seconds, wait in ((40, 40.0), (-40, 0.0)):
        date = formatdate(1_763_879_000 + seconds, usegmt=True)
        assert await _after(nursery, protocol, batch, status, date) == wait


@rule("6.3")
@over_http
@pytest.mark.parametrize(
    ("text", "after"),
    [
        (None, None), ("", None), ("-5", None), ("1.5", None), ("soon", None), ("1e3", None), ("٣", None), ("9" * 5000, None),
        ("Mon, 32 Nov 2025 99:99:99 GMT", None), ("Sun, 23 Nov 2025 06:24:20 +99999999999999", None),
        ("9" * 15, MAX_WAIT), ("Sun, 23 Nov 9999 06:24:20 GMT", MAX_WAIT),
    ],
)  # fmt: skip
async def test_retry_after_that_is_nonsense(nursery, protocol, batch, text, after):
    assert await _after(nursery, protocol, batch, 503, text) == after


async def _after(nursery, protocol, batch, status, text):
    """What an answer with this Retry-After asks for."""
    from agent.scripted import serve

    head = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n"
    head += "" if text is None else f"Retry-After: {text}\r\n"
    server = await serve(nursery, [head.encode() + b"\r\n"])
    async with exporter(endpoint=server.url, protocol=protocol) as otlp:
        with pytest.raises(Retry) as caught:
            await otlp.send(sealed(otlp, batch))
    return caught.value.after


@rule("4.1")
@by_grpc
@pytest.mark.parametrize(
    ("details", "first"),
    [
        (retry_info(7), 7), (retry_info(0.25), 1), (retry_info(0), 1), (retry_info(10**11), 86400),
        (b"\xff\xff", 1), (INFO[:-3], 1), (INFO.replace(b"RetryInfo", b"Something"), 1), (b"", 1),
    ],
    ids=["7s", "short", "zero", "huge", "nonsense", "cut", "another type", "empty"],
)  # fmt: skip
async def test_retry_info(clock, destination, batch, details, first):
    destination.script = [Answer(code="UNAVAILABLE", details=details)]
    got = await deliver(destination, [batch], queue={"max_age": "2d"})
    assert got.waits == [first]


@rule("2.2")
@by_grpc
async def test_resource_exhausted_waits_as_it_is_told(clock, destination, batch):
    destination.script = [Answer(code="RESOURCE_EXHAUSTED", after=9)]
    assert (await deliver(destination, [batch])).waits == [9]


@rule("2.1")
@by_grpc
async def test_resource_exhausted_without_a_word_on_when_is_dropped(clock, destination, batch):
    destination.script = [Answer(code="RESOURCE_EXHAUSTED", message="no more")]
    got = await deliver(destination, [batch])
    assert (got.counts.requests, got.counts.dropped["rejected"]) == (1, len(batch))


@rule("3.2")
async def test_what_is_refused_is_counted_and_logged(clock, destination, batch, caplog):
    destination.script = [REFUSED]
    got = await deliver(destination, [batch])
    assert got.counts.dropped["rejected"] == len(batch)
    assert '"malformed"' in caplog.text
    assert f"dropped {len(batch)} samples" in caplog.text
