"""Instruments as Prometheus' text format 0.0.4.

Names follow OpenTelemetry's "Prometheus and OpenMetrics Compatibility": dots become underscores, a unit that is a word
is a suffix, and a counter ends in ``_total``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.meter import Instrument

_UNITS = {"s": "seconds", "By": "bytes"}
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def render(instruments: Iterable[Instrument]) -> str:
    """Read all instruments and return one family after the other."""
    return "".join(line for instrument in instruments for line in _family(instrument))


def prometheus_name(instrument: Instrument) -> str:
    """Return the name that Prometheus sees."""
    words = [instrument.name.replace(".", "_")]
    if instrument.unit in _UNITS:
        words.append(_UNITS[instrument.unit])
    if instrument.counter:
        words.append("total")
    return "_".join(words)


def _family(instrument: Instrument) -> Iterator[str]:
    name = prometheus_name(instrument)
    yield f"# HELP {name} {instrument.help.translate(_HELP_ESCAPES)}\n"
    yield f"# TYPE {name} {'counter' if instrument.counter else 'gauge'}\n"
    for value, labels in instrument.read():
        yield f"{name}{_labels(instrument.labels, labels)} {value!r}\n"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = sorted(zip(names, values, strict=True))
    inside = ",".join(f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in pairs)
    return f"{{{inside}}}" if inside else ""
