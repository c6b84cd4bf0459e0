"""When polls happen, and how their failures are spoken of: under a virtual clock."""

from __future__ import annotations

import logging

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from trio.testing import MockClock

from agent.tracing import Span, switch_off, switch_on
from ebbtide import Context, Emit, ReceiveError
from receivers.limits import Limits
from receivers.polling import PollingReceiver, PollingSettings, Schedule, ServerSettings, instance_of, labels_of

S = 10**9
T0 = 1_795_362_003 * S  # three seconds past a whole multiple of ten


class Polls(PollingReceiver[PollingSettings]):
    """Polls nothing: remembers when, takes as long as it is told, fails as often as it is told."""

    Settings = PollingSettings

    def __init__(self, *, lasting: list[float] | None = None, failing: int = 0, **options: object):
        now = trio.current_time
        began = now()
        super().__init__(
            PollingSettings.model_validate(options),
            Context("p", log=logging.getLogger("ebbtide.test"), now=lambda: T0 + round((now() - began) * S)),
        )
        self.lasting = lasting or []
        self.failing = failing
        self.at: list[float] = []
        self.busy = False
        self.closed = 0

    async def poll(self, emit: Emit) -> None:
        assert not self.busy
        self.busy = True
        self.at.append((self.context.now() - T0) / S)
        await trio.sleep(self.lasting.pop(0) if self.lasting else 0)
        self.busy = False
        if len(self.at) <= self.failing:
            raise ReceiveError("cannot read it")

    async def aclose(self) -> None:
        self.closed += 1
        await trio.lowlevel.checkpoint()


async def nowhere(_: object) -> None:
    raise AssertionError("nothing is emitted here")


async def run_for(seconds: float, polls: Polls) -> list[float]:
    with trio.move_on_after(seconds):
        await polls.run(nowhere)
    assert polls.closed == 1
    return polls.at


@pytest.mark.parametrize(
    ("lasting", "times"),
    [
        ([], [0, 7, 17, 27, 37]),
        ([3, 9.5, 1], [0, 7, 17, 27, 37]),
        ([6.9, 10], [0, 7, 27, 37]),  # a poll that lasts to the boundary has missed it
        ([7, 0], [0, 17, 27, 37]),
        ([25], [0, 27, 37]),
    ],
)
async def test_the_first_poll_is_at_once_and_later_ones_are_aligned(
    autojump_clock: MockClock, lasting: list[float], times: list[float]
) -> None:
    assert await run_for(40, Polls(lasting=lasting)) == times


async def test_a_clock_that_wakes_early_does_not_poll_twice(autojump_clock: MockClock) -> None:
    polls = Polls()
    true_now = polls.context.now
    polls.context.now = lambda: T0 + (true_now() - T0) * 9999 // 10000  # slower than the clock that we sleep by
    times = await run_for(40, polls)
    assert [round(time) for time in times] == [0, 7, 17, 27, 37]


async def test_failed_polls_are_polled_on_and_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbtide")
    assert len(await run_for(40, Polls(failing=3))) == 5
    assert caplog.messages == ["receivers.p: cannot read it", "receivers.p: well again after 3 failed polls"]


async def test_a_bug_is_not_taken_for_a_failed_poll(autojump_clock: MockClock) -> None:
    class Broken(Polls):
        async def poll(self, emit: Emit) -> None:
            raise ZeroDivisionError

    broken = Broken()
    with pytest.raises(ZeroDivisionError):
        await broken.run(nowhere)
    assert broken.closed == 1


@pytest.mark.parametrize("failing", [0, 1])
async def test_once_polls_once_and_closes(
    autojump_clock: MockClock, failing: int, caplog: pytest.LogCaptureFixture
) -> None:
    polls = Polls(failing=failing)
    await polls.once(nowhere)
    assert (polls.at, polls.closed) == ([0], 1)
    assert caplog.messages == ["receivers.p: cannot read it"] * failing


async def test_closing_is_bounded(autojump_clock: MockClock) -> None:
    class Clinging(Polls):
        async def aclose(self) -> None:
            await trio.sleep_forever()

    began = trio.current_time()
    await Clinging().once(nowhere)
    assert trio.current_time() - began == pytest.approx(1)


# -- the schedule -------------------------------------------------------------------------------------------------------


@given(
    interval=st.integers(10**6, 86400 * S),
    now=st.integers(0, 2**62),
    steps=st.lists(st.tuples(st.floats(-0.4, 0.4), st.integers(0, 3), st.floats(0, 0.5)), max_size=20),
)
def test_boundaries_are_multiples_and_rise_whatever_the_clock_does(
    interval: int, now: int, steps: list[tuple[float, int, float]]
) -> None:
    """``steps``: how early or late we are woken, and how long the poll lasts, in intervals."""
    schedule = Schedule(interval)
    last = -1
    for jitter, whole, part in steps:
        wait = schedule.wait(now)
        due = now + wait
        assert 0 < wait <= 2 * interval
        assert due % interval == 0
        assert due > last
        last = due
        now = due + int(jitter * interval) + whole * interval + int(part * interval)


@pytest.mark.parametrize(
    ("nows", "waits"),
    [
        ([0], [10]),
        ([3], [7]),
        ([9], [1]),
        ([3, 10, 20], [7, 10, 10]),
        ([3, 9], [7, 11]),  # woken early: the boundary at 10 is met already
        ([3, 12, 19], [7, 8, 11]),
        ([3, 45], [7, 5]),
        ([33, 12], [7, 8]),  # the wall clock was put back
    ],
)
def test_the_wait(nows: list[int], waits: list[int]) -> None:
    schedule = Schedule(10)
    assert [schedule.wait(now) for now in nows] == waits


# -- failures that last ---------------------------------------------------------------------------------------------------


async def test_a_failure_that_lasts_is_said_again_with_its_count(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ebbtide")
    await run_for(720, Polls(failing=62))
    assert caplog.messages == [
        "receivers.p: cannot read it",
        "receivers.p: cannot read it (6 more before, not logged)",
        "receivers.p: cannot read it (11 more before, not logged)",
        "receivers.p: cannot read it (23 more before, not logged)",
        "receivers.p: well again after 62 failed polls",
    ]
    assert {record.component for record in caplog.records} == {"receivers.p"}  # type: ignore[attr-defined]


async def test_another_failure_is_said_at_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    class Changing(Polls):
        async def poll(self, emit: Emit) -> None:
            await super().poll(emit)
            number = len(self.at)
            if number <= 3:
                raise ReceiveError("cannot a" if number < 3 else "cannot b")
            if number == 5:
                raise ReceiveError("cannot b")

    caplog.set_level(logging.INFO, "ebbtide")
    await run_for(45, Changing())
    assert caplog.messages == [
        "receivers.p: cannot a",
        "receivers.p: cannot b (1 more before, not logged)",
        "receivers.p: well again after 3 failed polls",
        "receivers.p: cannot b",
    ]


# -- for the self-telemetry -----------------------------------------------------------------------------------------------


async def test_polls_are_timed_and_their_success_is_dated(autojump_clock: MockClock) -> None:
    polls = Polls(lasting=[1, 2, 4], failing=2)
    await run_for(30, polls)
    assert polls.counts.poll_seconds == pytest.approx(7)
    assert polls.counts.last_success == pytest.approx((T0 + 27 * S) / S)


async def test_a_poll_that_fails_is_no_success(autojump_clock: MockClock) -> None:
    polls = Polls(lasting=[1], failing=1)
    await polls.once(nowhere)
    assert (polls.counts.poll_seconds, polls.counts.last_success) == (1, 0)


async def test_each_poll_is_a_span(autojump_clock: MockClock) -> None:
    spans: list[Span] = []
    recorder = switch_on()
    recorder.pass_on(spans.append, lambda _: True)
    try:
        await run_for(15, Polls(failing=1))
    finally:
        switch_off(recorder)
    assert [(one.name, one.error) for one in spans] == [("poll", ("ReceiveError", "cannot read it")), ("poll", None)]
    assert spans[1].attributes == {"receiver": "p", "samples": 0, "out": 0}


# -- addresses and options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "instance"),
    [
        ("http://prometheus", "prometheus:80"),
        ("https://prometheus", "prometheus:443"),
        ("http://prometheus:9090", "prometheus:9090"),
        ("https://prometheus:8443/base/path?x=1#y", "prometheus:8443"),
        ("http://10.0.0.1:9090/", "10.0.0.1:9090"),
        ("http://[2001:db8::1]:9090", "[2001:db8::1]:9090"),
        ("https://[::1]", "[::1]:443"),
        ("http://me:s3cret@prometheus:9090", "prometheus:9090"),
        ("https://me@[::1]/x", "[::1]:443"),
        ("kubernetes://linkerd-viz/service/prometheus:9090", "prometheus.linkerd-viz:9090"),
    ],
)
def test_the_instance_is_host_and_port(url: str, instance: str) -> None:
    assert instance_of(url) == instance
    assert labels_of("linkerd", url) == {"job": "linkerd", "instance": instance}


def test_options_unset_are_those_of_the_contract() -> None:
    settings = PollingSettings()
    assert (settings.interval, settings.timeout, settings.max_body) == (10.0, 10.0, 512 << 20)
    assert (settings.scrape_metrics, settings.start_times, settings.types) == (True, "track", {})
    assert settings.limits == Limits()


def test_limits_are_passed_on_each_to_its_own() -> None:
    names = ("sample_limit", "label_limit", "label_name_length_limit", "label_value_length_limit")
    settings = PollingSettings.model_validate(dict(zip(names, (1, 2, 3, 4), strict=True)))
    assert settings.limits == Limits(samples=1, labels=2, label_name_length=3, label_value_length=4)


@pytest.mark.parametrize(
    ("options", "at", "said"),
    [
        ({"interval": "0s"}, "interval", "more than zero"),
        ({"interval": 10}, "interval", "not a duration"),
        ({"interval": "10"}, "interval", "not a duration"),
        ({"timeout": "-1s"}, "timeout", "not a duration"),
        ({"max_body": "0B"}, "max_body", "more than zero"),
        ({"max_body": "64"}, "max_body", "not a size"),
        ({"sample_limit": -1}, "sample_limit", "greater than or equal to 0"),
        ({"label_limit": "7"}, "label_limit", "valid integer"),
        ({"start_times": "guess"}, "start_times", "'track' or 'none'"),
        ({"types": {"x": "histogramm"}}, "types.x", "'counter', 'gauge'"),
        ({"scrape_metrics": "yes"}, "scrape_metrics", "valid boolean"),
        ({"headers": {"X-A": 1}}, "headers.X-A", "valid string"),
        ({"headers": {"X A": "s3cret"}}, "headers", "a header's name is none that HTTP has"),
        ({"headers": {"": "s3cret"}}, "headers", "a header's name is none that HTTP has"),
        ({"headers": {"Accept": "s3cret"}}, "headers", "the header accept is the agent's own"),
        (
            {"headers": {"Authorization": "s3cret"}, "bearer_token_file": "/t"},
            "",
            "the header authorization and bearer_token_file",
        ),
        ({"headers": {"X-A": "s3cret\nx"}}, "headers", "the header x-a holds a line break, or a NUL; remove it"),
        ({"bearer_token": "s3cret\r"}, "bearer_token", "holds a line break, or a NUL; remove it"),
        ({"bearer_token": ""}, "bearer_token", "must not be empty; write some text"),
        ({"bearer_token": "s3cret", "bearer_token_file": "/t"}, "", "keep one of them"),
        ({"bearer_token": "s3cret", "basic_auth": {"username": "u", "password": "s3cret"}}, "", "keep one of them"),
        ({"basic_auth": {"username": "u"}}, "basic_auth", "needs a password"),
        ({"tls": {"key_file": "k"}}, "tls", "without cert_file"),
        ({"intervall": "10s"}, "intervall", "Extra inputs"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], at: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PollingSettings.model_validate(options)
    (error,) = caught.value.errors(include_input=False)
    assert ".".join(map(str, error["loc"])) == at
    assert said in error["msg"]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("option", ["kubeconfig", "context"])
def test_a_cluster_is_for_urls_that_lead_into_one(option: str) -> None:
    ServerSettings.model_validate({"url": "kubernetes://viz/service/prometheus:9090", option: "x"})
    with pytest.raises(ValidationError, match=f"{option} is for kubernetes:// URLs"):
        ServerSettings.model_validate({"url": "http://prometheus:9090", option: "x"})


async def test_idle_connections_outlive_the_interval() -> None:
    for interval, kept in (("10s", 90.0), ("5m", 900.0)):
        client = PollingSettings.model_validate({"interval": interval}).client()
        assert client._limits.keepalive_expiry == kept
        await client.aclose()
