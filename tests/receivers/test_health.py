"""The five series of a poll, as Prometheus writes them."""

from __future__ import annotations

from ebbtide import Series, Target
from receivers.health import Health

LABELS = {"job": "linkerd", "instance": "prometheus:9090"}
NOW = 1_795_362_000 * 10**9


def test_a_good_poll() -> None:
    batch = Health(LABELS).batch(NOW, up=True, seconds=0.25, samples=70, left=60, added=3)
    assert {row.series.name: row.value for row in batch.rows()} == {
        "up": 1.0,
        "scrape_duration_seconds": 0.25,
        "scrape_samples_scraped": 70.0,
        "scrape_samples_post_metric_relabeling": 60.0,
        "scrape_series_added": 3.0,
    }
    assert {row.time for row in batch.rows()} == {NOW}
    assert {row.start for row in batch.rows()} == {0}
    assert batch.stale is None


def test_a_failed_poll() -> None:
    batch = Health(LABELS).batch(NOW, up=False, seconds=10.0)
    assert batch.values.tolist() == [0.0, 10.0, 0.0, 0.0, 0.0]


def test_they_are_gauges_of_the_agent_with_their_targets_labels() -> None:
    batch = Health(LABELS).batch(NOW, up=True, seconds=1.0)
    for series in batch.table:
        assert series.labels == LABELS
        assert series.target is Target.of(LABELS)
        assert (series.family.kind, series.family.typed_by, series.family.name) == ("gauge", "agent", series.name)
        assert series.family.help
    assert {s.name: s.family.unit for s in batch.table if s.family.unit} == {"scrape_duration_seconds": "s"}


def test_the_form_stays_the_same_object() -> None:
    health = Health(LABELS)
    first, second = (health.batch(NOW + n, up=True, seconds=1.0) for n in range(2))
    assert first.table is second.table


def test_they_do_not_collide_with_a_federated_up() -> None:
    federated = {"job": "linkerd-proxy", "instance": "prometheus:9090"}
    assert Series.of("up", federated, target=Target.of(federated)) not in set(
        Health(LABELS).batch(NOW, up=True, seconds=1.0).table
    )
