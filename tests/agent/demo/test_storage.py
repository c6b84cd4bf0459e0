"""What the small Prometheus holds is what the pages showed at their scrapes, under viz' labels."""

import numpy as np
import pytest

from agent.demo.mesh import Mesh
from agent.demo.storage import SCRAPE_SERIES, Selection, Storage
from agent.selectors import parse_selector

Key = tuple[str, tuple[tuple[str, str], ...]]


def select(storage: Storage, *texts: str) -> Selection:
    return storage.select(tuple(parse_selector(text) for text in texts))


def held(storage: Storage, selection: Selection, now_ms: int) -> dict[Key, float]:
    samples = storage.samples(selection, storage.last_scrapes(now_ms))
    keys = [
        (name, shape.items(bound))
        for name, shape, bound in zip(selection.names, selection.shapes, selection.bounds, strict=True)
    ]
    assert len(set(keys)) == len(keys)
    return {key: samples.values[at, 0] for at, key in enumerate(keys) if samples.there[at, 0]}


def relabelled(page, labels: dict[str, str]) -> dict[Key, float]:
    """The rules of Prometheus, done carefully: exported_, empty labels dropped, the first of two equals kept."""
    found: dict[Key, float] = {}
    for family in page.values():
        for name, pairs, number in family.samples:
            own = {(f"exported_{key}" if key in labels else key): value for key, value in pairs if value}
            found.setdefault((name, tuple(sorted({**own, **labels}.items()))), float(number))
    return found


@pytest.mark.parametrize("after", [0, 1234, 5000])
def test_samples_are_those_of_the_pages_at_their_scrapes(
    mesh: Mesh, storage: Storage, origin: float, read_page, after: int
) -> None:
    now_ms = round(origin * 1000) + after * 1000 + 137
    found = held(storage, select(storage, '{job=~"linkerd-.*"}'), now_ms)
    expected: dict[Key, float] = {}
    for target, scraped in zip(mesh.targets, storage.last_scrapes(now_ms)[:, 0].tolist(), strict=True):
        page = mesh.page(target, scraped / 1000)
        expected |= relabelled(read_page((page or b"").decode()), target.labels)
        rows = len((page or b"").splitlines()) - (page or b"").count(b"\n#") - (1 if page else 0)
        own = tuple(sorted(target.labels.items()))
        assert found.pop(("up", own)) == (page is not None)
        assert found.pop(("scrape_samples_scraped", own)) == rows
        for name in SCRAPE_SERIES:
            found.pop((name, own), None)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-12)


def test_what_the_target_has_too_is_renamed(storage: Storage) -> None:
    selection = select(storage, '{__name__="proxy_build_info",app="web"}')
    labels = dict(selection.shapes[0].items(""))
    assert labels["version"] == "v7"
    assert labels["exported_version"].startswith("2.")
    assert "vendor" not in labels


def test_owners_of_every_kind(storage: Storage) -> None:
    selection = select(storage, "up")
    keys = {key for shape in selection.shapes for key, _ in shape.items("")}
    assert {"deployment", "statefulset", "daemonset", "cronjob", "k8s_job", "component", "control_plane_ns"} <= keys
    controllers = [
        dict(shape.items("")) for shape in select(storage, '{job="linkerd-controller",__name__="up"}').shapes
    ]
    assert all(set(labels) == {"job", "instance", "component"} for labels in controllers)


def test_a_union_has_each_series_once_and_is_sorted_by_name_only(storage: Storage) -> None:
    one = select(storage, '{job="linkerd-proxy"}')
    both = select(storage, '{job="linkerd-proxy"}', "request_total", '{job="linkerd-controller"}')
    controllers = select(storage, '{job="linkerd-controller"}')
    assert len(both.names) == len(one.names) + len(controllers.names)
    assert both.names == sorted(both.names)
    rows = [row for name, row in zip(one.names, one.rows.tolist(), strict=True) if name == "request_total"]
    assert rows != sorted(rows)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('response_latency_ms_bucket{le="+Inf"}', {"response_latency_ms_bucket"}),
        ('{__name__=~"tcp_(open|close)_total"}', {"tcp_open_total", "tcp_close_total"}),
        ('go_gc_duration_seconds{quantile="0.5"}', {"go_gc_duration_seconds"}),
        ('{__name__="up",job!~"linkerd-p.*",component="policy"}', {"up"}),
        ("no_such_metric", set()),
    ],
)
def test_selections(storage: Storage, text: str, names: set[str]) -> None:
    assert set(select(storage, text).names) == names


def test_a_bucket_is_found_by_its_bound(storage: Storage) -> None:
    assert set(select(storage, 'response_latency_ms_bucket{le=~"1|10"}').bounds) == {"1", "10"}


def test_history_begins_where_it_was_made_up_from(storage: Storage, origin: float) -> None:
    selection = select(storage, "up")
    first_ms = round((origin - 3600) * 1000)
    times = storage.scrapes(first_ms - 60_000, first_ms + 60_000)
    samples = storage.samples(selection, times)
    assert (times[selection.targets][samples.there] >= first_ms).all()
    assert samples.there.any(axis=1).all()


def test_scrapes_are_an_interval_apart_and_differ_between_targets(storage: Storage, origin: float) -> None:
    now_ms = round(origin * 1000)
    times = storage.scrapes(now_ms - 35_000, now_ms)
    assert (np.diff(times, axis=1) == 10_000).all()
    assert (times[:, -1] <= now_ms).all()
    assert (times[:, -1] > now_ms - 10_000).all()
    assert len(set(times[:, -1].tolist())) > 10
