"""What the environment asks for, and that shipping it never disturbs what it is about."""

from __future__ import annotations

import logging
import sys
import threading
import types
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from agent import telemetry, tracing
from agent.ledger import Ledger
from agent.reload import Reloads
from agent.telemetry import CLOSE_SECONDS, LOAD_AFTER, Telemetry, Wanted, wanted


@pytest.fixture(autouse=True)
def _switched_off() -> Iterator[None]:
    yield
    if tracing._recorder is not None:
        tracing.switch_off(tracing._recorder)


@pytest.mark.parametrize(
    ("environ", "protocols"),
    [
        ({}, {}),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"metrics": "http/protobuf"}),
        ({"OTEL_TRACES_EXPORTER": " OTLP "}, {"traces": "http/protobuf"}),
        ({"OTEL_METRICS_EXPORTER": ""}, {}),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}, {}),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "True "}, {}),
        ({"OTEL_METRICS_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, {}),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "no"}, {"metrics": "http/protobuf"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {}),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"metrics": "grpc"}),
        (
            {
                "OTEL_METRICS_EXPORTER": "otlp",
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "",
            },
            {"metrics": "grpc", "traces": "http/protobuf"},
        ),
    ],
)
def test_what_is_wanted(environ: dict[str, str], protocols: dict[str, str]) -> None:
    found = wanted(environ)
    assert found.protocols == protocols
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("environ", "protocols", "said"),
    [
        ({"OTEL_METRICS_EXPORTER": "console"}, {}, ["by 'console': OTEL_METRICS_EXPORTER may be \"otlp\" or \"none\"", "/metrics"]),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, {}, ["'prometheus'", "/metrics of agent.admin"]),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, {}, ["traces", "'zipkin'", '"otlp" or "none"']),
        ({"OTEL_LOGS_EXPORTER": "otlp"}, {}, ["logs", 'OTEL_LOGS_EXPORTER may be "none"']),
        ({"OTEL_METRICS_EXPORTER": "otlp, console,,x"}, {"metrics": "http/protobuf"}, ["'console', 'x'"]),
        ({"OTEL_METRICS_EXPORTER": "otlp,none"}, {"metrics": "http/protobuf"}, ['"none" beside others']),
        ({"OTEL_METRICS_EXPORTER": "x" * 1000}, {}, ["x" * 70]),
        (
            {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            {"metrics": "http/protobuf"},
            ["'http/json'", "OTEL_EXPORTER_OTLP_PROTOCOL may be grpc or http/protobuf", "using http/protobuf"],
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "carrier pigeon"},
            {"traces": "http/protobuf"},
            ["'carrier pigeon'", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"],
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
            {"traces": "http/protobuf"},
            ["OTEL_EXPORTER_OTLP_TIMEOUT is not a number of milliseconds"],
        ),
    ],
)  # fmt: skip
def test_what_is_asked_for_in_vain_is_said(environ: dict[str, str], protocols: dict[str, str], said: list[str]) -> None:
    found = wanted(environ)
    assert found.protocols == protocols
    (warning,) = found.warnings
    assert len(warning) < 400
    for words in said:
        assert words in warning


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 10),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500"}, 2.5),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "500"}, 0.5),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "-1"}, 10),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "0"}, 10),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "²"}, 10),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "9" * 5000}, 999999999.999),
    ],
)
def test_timeouts_are_milliseconds(environ: dict[str, str], seconds: float) -> None:
    assert wanted({"OTEL_METRICS_EXPORTER": "otlp", **environ}).timeouts == {"metrics": seconds}


# -- its life --------------------------------------------------------------------------------------------------------------

BOTH = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_TRACES_EXPORTER": "otlp"}


class Ships:
    """Stands for ``agent.shipping.Shipping``; ``close`` waits for ``gate``, if there is one."""

    made: list[Ships]
    gate: threading.Event | None = None

    def __init__(self, asked: Wanted, instruments: object):
        self.asked, self.closed, self.recorder = asked, False, None
        self.made.append(self)

    def pass_on(self, recorder: object) -> None:
        self.recorder = recorder

    def close(self) -> None:
        if self.gate is not None:
            self.gate.wait(30)
        self.closed = True


@pytest.fixture
def ships(monkeypatch: pytest.MonkeyPatch) -> type[Ships]:
    class Made(Ships):
        made: list[Ships] = []  # noqa: RUF012

    module = types.ModuleType("agent.shipping")
    module.Shipping = Made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agent.shipping", module)
    return Made


def one(environ: dict[str, str]) -> Telemetry:
    return Telemetry(Ledger(), {}, Reloads(), environ)


async def test_unasked_nothing_is_loaded(ships: type[Ships], autojump_clock: MockClock) -> None:
    began, quiet = trio.current_time(), one({})
    await quiet.start()
    await quiet.close()
    assert ships.made == []
    assert trio.current_time() == began
    assert tracing._recorder is None
    assert "ebbtide_uptime_seconds" in quiet.render()


async def test_it_is_loaded_after_the_first_polls_and_given_all_spans(ships: type[Ships], caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    shipped = one(BOTH)
    recorder = tracing._recorder
    assert recorder is not None  # from the very first poll on
    began = trio.current_time()
    await shipped.start()
    assert trio.current_time() - began >= LOAD_AFTER
    (made,) = ships.made
    assert made.recorder is recorder
    await shipped.close()
    assert made.closed
    assert tracing._recorder is None
    assert caplog.messages == []


async def test_metrics_alone_record_no_spans(ships: type[Ships], autojump_clock: MockClock) -> None:
    await one({"OTEL_METRICS_EXPORTER": "otlp"}).start()
    assert tracing._recorder is None
    assert ships.made[0].recorder is None


async def test_a_destination_that_is_dead_holds_up_the_end_for_a_second(ships: type[Ships], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(telemetry, "LOAD_AFTER", 0)
    monkeypatch.setattr(telemetry, "CLOSE_SECONDS", 0.05)
    ships.gate = threading.Event()
    try:
        shipped = one(BOTH)
        await shipped.start()
        began = trio.current_time()
        with trio.CancelScope() as scope:  # also where all around is cancelled already
            scope.cancel()
            await shipped.close()
        assert 0.05 <= trio.current_time() - began < 5
        assert not ships.made[0].closed
    finally:
        ships.gate.set()


async def test_an_end_before_it_is_loaded_is_no_trouble(ships: type[Ships], autojump_clock: MockClock) -> None:
    shipped = one(BOTH)
    with trio.move_on_after(LOAD_AFTER / 2):
        await shipped.start()
    await shipped.close()
    assert ships.made == []
    assert tracing._recorder is None


async def test_what_cannot_be_loaded_is_a_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "agent.shipping", None)
    shipped = one(BOTH)
    await shipped.start()
    await shipped.close()
    (message,) = caplog.messages
    assert message.startswith("cannot ship the agent's own telemetry: ")
    assert message.endswith("it goes on without")


async def test_warnings_are_said_once_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    shipped = one({"OTEL_METRICS_EXPORTER": "console"})
    assert caplog.messages == []
    await shipped.start()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_the_limits_are_those_of_the_documentation() -> None:
    assert (LOAD_AFTER, CLOSE_SECONDS) == (1.0, 1.0)
