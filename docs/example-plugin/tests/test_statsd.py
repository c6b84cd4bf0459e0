"""The lines of statsd, by eye."""

from ebbtide_example.statsd import Statsd, StatsdSettings

from ebbtide import Batch, Row, Series


def test_a_row_is_a_line() -> None:
    series = Series.of("request_total", {"direction": "inbound", "path": "/a:b|c"})
    statsd = Statsd(StatsdSettings(prefix="linkerd."))
    (payload,) = statsd.encode(
        Batch.of([Row(series, 5.0, 1, 0, False), Row(Series.of("nan"), float("nan"), 1, 0, False)])
    )
    assert payload.body == b"linkerd.request_total:5.0|g|#direction:inbound,path:/a_b_c\n"
    assert statsd.counts.dropped == {"not_finite": 1}
