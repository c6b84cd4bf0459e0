"""The agent's own telemetry: ``/metrics`` when asked for it, and shipped by OTLP where the environment says so.

Strategy. ``/metrics`` needs no library. Shipping is switched on by ``OTEL_METRICS_EXPORTER=otlp`` and
``OTEL_TRACES_EXPORTER=otlp`` alone: the endpoint variables are the data path's defaults too and switch on nothing. It
is loaded late, in a thread, after the first polls have begun, and closed last, in a thread that is left behind where
the destination is dead. Nothing that goes wrong with it is more than a line in the log.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import trio

from agent import tracing
from agent.folded import FoldedLog
from agent.ledger import Ledger
from agent.meter import Meter, Queue, Reloads

if TYPE_CHECKING:
    from agent.shipping import Shipping

logger = logging.getLogger("ebbtide.telemetry")

Signal = Literal["metrics", "traces"]
Protocol = Literal["grpc", "http/protobuf"]

SIGNALS: tuple[Signal, ...] = ("metrics", "traces")
PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http/protobuf")
DEFAULT_PROTOCOL: Protocol = "http/protobuf"
DEFAULT_TIMEOUT = 10.0
"""Seconds that one export may take; OpenTelemetry's default."""

LOAD_AFTER = 1.0
"""Seconds after the start at which shipping is loaded: the first polls have the processor for themselves."""
CLOSE_SECONDS = 1.0
"""How long the end may be held up by what is still to be shipped."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the environment asks for: the signals to ship, how each, and what it asks for in vain, as sentences.

    ``timeouts`` in seconds: the variables are in milliseconds, which the exporters of the library take for seconds.
    """

    protocols: Mapping[Signal, Protocol]
    timeouts: Mapping[Signal, float]
    warnings: tuple[str, ...] = ()


def wanted(environ: Mapping[str, str]) -> Wanted:
    """Read the environment.

    Source: OpenTelemetry specification, "Environment Variable Specification" (an empty variable is an unset one, enum
    values in any case, unknown ones ignored with a warning) and "OpenTelemetry Protocol Exporter".
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Wanted({}, {})
    warnings = [*_not_available(environ, "logs", ())]
    protocols: dict[Signal, Protocol] = {}
    timeouts: dict[Signal, float] = {}
    for signal in SIGNALS:
        warnings += _not_available(environ, signal, ("otlp",))
        if "otlp" in _exporters(environ, signal):
            protocols[signal] = _protocol(environ, signal, warnings)
            timeouts[signal] = _timeout(environ, signal, warnings)
    return Wanted(protocols, timeouts, tuple(dict.fromkeys(warnings)))


def _exporters(environ: Mapping[str, str], signal: str) -> list[str]:
    words = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").split(",")
    return [word.strip().lower() for word in words if word.strip()]


def _not_available(environ: Mapping[str, str], signal: str, available: tuple[str, ...]) -> Iterator[str]:
    asked = _exporters(environ, signal)
    unknown = [word for word in asked if word not in (*available, "none")]
    if unknown:
        possible = " or ".join(f'"{word}"' for word in (*available, "none"))
        instead = "; Prometheus reads them at /metrics of agent.admin" if signal == "metrics" else ""
        yield (
            f"cannot ship {signal} of the agent itself by {', '.join(map(repr, unknown))[:80]}: "
            f"OTEL_{signal.upper()}_EXPORTER may be {possible} here{instead}"
        )
    elif "none" in asked and len(set(asked)) > 1:
        yield f'"none" beside others in OTEL_{signal.upper()}_EXPORTER is passed over; leave one of them'


def _either(environ: Mapping[str, str], signal: Signal, name: str) -> tuple[str, str]:
    """Return the value of a variable and its name: of the signal's own, or else of the one for all."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        value = environ.get(variable, "").strip()
        if value:
            return value, variable
    return "", ""


def _protocol(environ: Mapping[str, str], signal: Signal, warnings: list[str]) -> Protocol:
    value, variable = _either(environ, signal, "PROTOCOL")
    for protocol in PROTOCOLS:
        if value.lower() == protocol:
            return protocol
    if value:
        warnings.append(
            f"cannot ship {signal} of the agent itself by {value[:80]!r}: {variable} may be "
            f"{' or '.join(PROTOCOLS)} for them; using {DEFAULT_PROTOCOL}"
        )
    return DEFAULT_PROTOCOL


def _timeout(environ: Mapping[str, str], signal: Signal, warnings: list[str]) -> float:
    value, variable = _either(environ, signal, "TIMEOUT")
    if value.isascii() and value.isdigit() and int(value[:12]) > 0:
        return int(value[:12]) / 1000
    if value:
        warnings.append(
            f"{variable} is not a number of milliseconds; {signal} of the agent itself have {DEFAULT_TIMEOUT:g}s"
        )
    return DEFAULT_TIMEOUT


class Telemetry:
    """The self-telemetry of one run. Make it inside the trio loop, before anything polls; ``start`` it, ``close`` it last.

    ``ledger``, ``queues`` (outboxes by id) and ``reloads`` are read live and may change.
    """

    def __init__(
        self,
        ledger: Ledger,
        queues: Mapping[str, Queue],
        reloads: Reloads,
        environ: Mapping[str, str] = os.environ,
    ):
        self.meter = Meter(ledger, queues, reloads)
        self._wanted = wanted(environ)
        self._recorder = tracing.switch_on() if "traces" in self._wanted.protocols else None
        self._log = FoldedLog(logger)
        self._shipping: Shipping | None = None

    def render(self) -> str:
        """Return all metrics in Prometheus' text format 0.0.4."""
        return self.meter.render()

    async def start(self) -> None:
        """Ship what the environment asks for; returns once that runs, or at once. Start it beside the receivers."""
        for warning in self._wanted.warnings:
            logger.warning("%s", warning)
        if self._wanted.protocols:
            await trio.sleep(LOAD_AFTER)
            self._shipping = await trio.to_thread.run_sync(self._load, abandon_on_cancel=True)
            if self._shipping is not None and self._recorder is not None:
                self._shipping.pass_on(self._recorder)

    def _load(self) -> Shipping | None:
        try:
            from agent.shipping import Shipping

            return Shipping(self._wanted, self.meter.instruments)
        except Exception as error:  # noqa: BLE001 - of any library; the data path does not depend on it
            logger.warning(
                "cannot ship the agent's own telemetry: %s: %s; it goes on without", type(error).__name__, error
            )
            return None

    async def close(self) -> None:
        """Ship what is left, within ``CLOSE_SECONDS``; what a dead destination does not take by then is left behind."""
        if self._recorder is not None:
            tracing.switch_off(self._recorder)
        if self._shipping is None:
            return
        with trio.move_on_after(CLOSE_SECONDS, shield=True) as scope:
            await trio.to_thread.run_sync(self._shipping.close, abandon_on_cancel=True)
        if scope.cancelled_caught:
            logger.debug("the last of the agent's own telemetry was not taken within %gs", CLOSE_SECONDS)
