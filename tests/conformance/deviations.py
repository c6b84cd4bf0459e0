"""Where we differ from what another project wrote down: by suite and case, and why.

A case that differs and is not listed fails the tests, and so does one that is listed and does not differ.
"""

from __future__ import annotations

from collections.abc import Mapping

_AS_PROMETHEUS = "Prometheus' own parser does the same, and it has the last word: "
_LE = _AS_PROMETHEUS + "`le` and `quantile` are compared where histograms are built"
_NUMBERS = (
    _AS_PROMETHEUS + "it takes any number from any family; what is no histogram is found where histograms are built"
)
_ESCAPES = _AS_PROMETHEUS + "an unknown escape stays as it is written"
_DRAFT = "native histograms in OpenMetrics text are a draft that no server sends unasked; the line is refused"

DEVIATIONS: Mapping[str, Mapping[str, str]] = {
    "prometheus_common errors": {
        "1": _ESCAPES,
        "7": _LE,
        "12": _AS_PROMETHEUS + "the last of several HELP lines counts",
        "13": _AS_PROMETHEUS + "the last of several TYPE lines counts",
        "14": _AS_PROMETHEUS + "a TYPE line may stand behind samples, as on a proxy's page it does",
        "19": _LE,
        "32": _LE,
        "33": _LE,
        "36": _ESCAPES,
        "38": _ESCAPES,
        "43": _NUMBERS,
        "44": _NUMBERS,
        "45": _NUMBERS,
        "46": _NUMBERS,
    },
    "prometheus_common pages": {
        "8": _AS_PROMETHEUS + r"a HELP text knows the escapes `\\` and `\n` only, `\"` stays",
    },
    "OpenMetrics entries": {
        "TestOpenMetricsParse_UTF8/9": "a `_created` line dates all samples of its labels, wherever it stands; "
        "Prometheus gives up on those that stand behind it",
    },
    "client_python OpenMetrics": {
        "4": "times are milliseconds, as in Prometheus: two that differ by a nanosecond are one time twice",
        **{str(case): _DRAFT for case in range(216, 224)},
    },
    "configurations to refuse": {
        "scrape_interval.bad.yml": "a timeout may be longer than the interval: two polls of a target never overlap, and a slow "
        "one is awaited",
        "url_in_targetgroup.bad.yml": "`targets` takes whole URLs as well; what is neither a URL nor host:port is refused",
    },
}
