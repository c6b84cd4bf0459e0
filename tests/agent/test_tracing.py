"""Spans: nothing while off; records with ids, times and errors while on."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import trio

from agent.tracing import MOST_PENDING, NoSpan, Recorder, Span, span, switch_off, switch_on, traceparent


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    one = switch_on()
    yield one
    switch_off(one)


@pytest.fixture
def spans(recorder: Recorder) -> list[Span]:
    """Everything that ends."""
    ended: list[Span] = []
    recorder.pass_on(ended.append, lambda _: True)
    return ended


def test_off_is_one_object_that_does_nothing() -> None:
    with span("poll", receiver="linkerd") as one:
        one.set(samples=5)
        assert traceparent() is None
    assert type(one) is NoSpan
    one.fail("any", "words")
    assert not one.recorded
    assert span("send") is one
    with pytest.raises(ZeroDivisionError), span("poll"):
        raise ZeroDivisionError


def test_neither_module_imports_a_library_for_it() -> None:
    """What every start imports: until somebody ships, the SDK is not there."""
    source = (
        "import sys, agent.telemetry, agent.tracing; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_span_knows_its_work(spans: list[Span]) -> None:
    before = time.time_ns()
    with span("send", "client", exporter="backend") as one:
        assert spans == []
        one.set(samples=5, **{"http.response.status_code": 200})
    assert spans == [one]
    (sent,) = spans
    assert (sent.name, sent.kind, sent.error, sent.parent) == ("send", "client", None, None)
    assert before <= sent.began < sent.ended <= time.time_ns() + 10**6
    assert sent.named_attributes() == {
        "ebbtide.exporter": "backend",
        "ebbtide.samples": 5,
        "http.response.status_code": 200,
    }


def test_an_error_is_part_of_it(spans: list[Span]) -> None:
    with pytest.raises(ValueError, match="wrong"), span("poll"):
        raise ValueError("wrong")
    assert spans[0].error == ("ValueError", "wrong")
    assert spans[0].named_attributes() == {"error.type": "ValueError"}


def test_what_fails_without_an_exception_can_say_so(spans: list[Span]) -> None:
    with span("poll") as one:
        assert one.recorded
        one.fail("ReceiveError", "cannot read it")
    assert spans[0].error == ("ReceiveError", "cannot read it")
    assert spans[0].named_attributes() == {"error.type": "ReceiveError"}


async def test_a_cancellation_is_no_error(spans: list[Span]) -> None:
    with trio.move_on_after(0), span("poll"):
        await trio.sleep_forever()
    with trio.move_on_after(0):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            with span("poll"):
                async with trio.open_nursery() as inner:
                    inner.start_soon(trio.sleep_forever)
                    await trio.sleep_forever()
    assert [one.error for one in spans] == [None, None]


async def test_a_group_of_errors_is_one(spans: list[Span]) -> None:
    with pytest.raises(ExceptionGroup), span("poll"):
        raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])
    assert spans[0].error == ("ExceptionGroup", "two (2 sub-exceptions)")


async def test_what_is_inside_is_a_child_and_tasks_do_not_mix(spans: list[Span]) -> None:
    async def work(name: str) -> None:
        with span(name):
            await trio.sleep(0.001)
            with span(f"{name} inside"):
                await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, "a")
        nursery.start_soon(work, "b")
    by_name = {one.name: one for one in spans}
    for name in "ab":
        inside = by_name[f"{name} inside"]
        assert inside.parent is by_name[name]
        assert inside.trace_id == by_name[name].trace_id
        assert by_name[name].parent is None
    assert len({one.span_id for one in spans}) == 4
    assert by_name["a"].trace_id != by_name["b"].trace_id


def test_spans_wait_for_who_ships_them_and_the_newest_stay(recorder: Recorder) -> None:
    for number in range(MOST_PENDING + 10):
        with span("poll", number=number):
            pass
    shipped: list[Span] = []
    recorder.pass_on(shipped.append, lambda _: True)
    assert [one.attributes["number"] for one in shipped] == list(range(10, MOST_PENDING + 10))
    with span("poll", number=-1):
        pass
    assert shipped[-1].attributes["number"] == -1


@pytest.mark.parametrize(("sampled", "flags"), [(True, "01"), (False, "00")])
def test_the_trace_context_is_that_of_w3c(recorder: Recorder, sampled: bool, flags: str) -> None:
    """Source: W3C Trace Context, "traceparent Header"."""
    with span("send") as one:
        assert traceparent() == f"00-{one.trace_id:032x}-{one.span_id:016x}-00"  # type: ignore[attr-defined]
        recorder.pass_on(lambda _: None, lambda _: sampled)
        found = traceparent()
        assert found is not None
        assert re.fullmatch(rf"00-(?!0{{32}})[0-9a-f]{{32}}-(?!0{{16}})[0-9a-f]{{16}}-{flags}", found)
    assert traceparent() is None


def test_switching_off_ends_only_ones_own(recorder: Recorder) -> None:
    other = switch_on()
    switch_off(recorder)
    assert isinstance(span("poll"), Span)
    switch_off(other)
    assert not isinstance(span("poll"), Span)
