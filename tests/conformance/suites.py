"""All suites, what each asks, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conformance import configurations, openmetrics, pages, text
from tests.conformance.deviations import DEVIATIONS


@dataclass(frozen=True)
class Suite:
    """Cases of one author about one thing. ``run`` yields each case's key, and whether it holds."""

    name: str
    source: str
    run: Callable[[Path], text.Cases]

    @property
    def asks(self) -> str:
        """What the cases ask, in a sentence."""
        return (self.run.__doc__ or "").strip()


@dataclass(frozen=True)
class Outcome:
    """How many cases a suite has, and the keys of those that do not hold."""

    cases: int
    differing: tuple[str, ...]

    def surprises(self, name: str) -> set[str]:
        """Cases that differ and are not listed, or are listed and do not differ."""
        return set(self.differing) ^ set(DEVIATIONS.get(name, {}))


_TEXTPARSE, _COMMON = "prometheus/prometheus model/textparse", "prometheus/common expfmt"
_SCRAPE, _CLIENT = "prometheus/prometheus scrape", "prometheus/client_python"
_RECORDED = "linkerd2-proxy, recorded"
_CONFIG = "prometheus/prometheus config"

_SUITES = (
    Suite("text entries", _TEXTPARSE, text.textparse_entries),
    Suite("text inputs", _TEXTPARSE, text.textparse_inputs),
    Suite("prometheus_common pages", _COMMON, text.common_pages),
    Suite("prometheus_common errors", _COMMON, text.common_errors),
    Suite("client_python text", _CLIENT, text.client_python),
    Suite("OpenMetrics, strictly", "prometheus/OpenMetrics", openmetrics.suite_strict),
    Suite("OpenMetrics, leniently", "prometheus/OpenMetrics", openmetrics.suite_lenient),
    Suite("client_python OpenMetrics", _CLIENT, openmetrics.client_python),
    Suite("OpenMetrics entries", _TEXTPARSE, openmetrics.textparse_entries),
    Suite("OpenMetrics inputs", _TEXTPARSE, openmetrics.textparse_inputs),
    Suite("content types", _TEXTPARSE, pages.content_types),
    Suite("Accept headers", _SCRAPE, pages.accept_headers),
    Suite("family membership", _SCRAPE, pages.membership),
    Suite("real pages", "programs of many authors", pages.real_pages),
    Suite("protobuf pages", "prometheus/common; opentelemetry-collector-contrib", pages.protobuf_pages),
    Suite("federated pages", "prometheus/prometheus web; linkerd/website", pages.federate),
    Suite("recorded pages", _RECORDED, pages.recordings),
    Suite("recorded odd pages", _RECORDED, pages.odd_recordings),
    Suite("configurations to refuse", _CONFIG, configurations.bad),
    Suite("configurations to take", _CONFIG, configurations.good),
)
SUITES: Mapping[str, Suite] = {suite.name: suite for suite in _SUITES}


@cache
def outcome(name: str, vectors: Path) -> Outcome:
    """Run a suite; once, whoever asks."""
    cases = list(SUITES[name].run(vectors))
    assert len(dict(cases)) == len(cases), "two cases have one key"
    return Outcome(len(cases), tuple(key for key, held in cases if not held))
