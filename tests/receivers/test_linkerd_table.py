import tarfile
from pathlib import Path

import pytest

from receivers.exposition import Metadata, parse_page
from receivers.linkerd_table import LINKERD_FAMILIES, Entry

KINDS = {"counter", "gauge", "histogram", "summary"}


def told(page: dict[str, Metadata]) -> dict[str, Entry]:
    return {name: Entry(said.kind, said.unit, said.help) for name, said in page.items()}


def pages(vectors: Path, archive: str, step: int) -> dict[str, Metadata]:
    """Everything that every ``step``-th page of a recording says of its families."""
    found: dict[str, Metadata] = {}
    with tarfile.open(vectors / "linkerd_proxy_recorded" / f"{archive}.tar.xz") as tar:
        members = sorted((member for member in tar if member.name.endswith(".prom")), key=lambda member: member.name)
        for member in members[::step]:
            file = tar.extractfile(member)
            assert file is not None
            comments = b"".join(line for line in file if line.startswith(b"#"))
            found |= parse_page(comments).metadata
    return found


@pytest.mark.parametrize(
    ("archive", "step", "least"), [("via_prometheus", 7, 160), ("odd_A", 9, 90), ("startup_A", 11, 80)]
)
def test_the_table_says_what_the_recorded_pages_say(vectors: Path, archive: str, step: int, least: int) -> None:
    recorded = told(pages(vectors, archive, step))
    assert len(recorded) >= least
    assert {name: LINKERD_FAMILIES.get(name) for name in recorded} == recorded


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("request_total", "counter"),
        ("response_latency_ms", "histogram"),
        ("stack_poll_total_ms", "counter"),
        ("opentelemetry_span_exports", "counter"),
        ("opencensus_span_export_streams", "counter"),
        ("identity_cert_refresh_count", "counter"),
        ("inbound_tcp_authz_terminate_total", "counter"),
        ("outbound_http_route_request_statuses", "counter"),
        ("outbound_tls_balancer_queue_latency_seconds", "histogram"),
        ("opentelemetry_balancer_endpoints", "gauge"),
        ("proxy_build_info", "gauge"),
        ("endpoints_informer_lag_seconds", "histogram"),
        ("endpoints_updates", "counter"),
        ("gateway_probes", "counter"),
        ("go_gc_duration_seconds", "summary"),
        ("up", "gauge"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert LINKERD_FAMILIES[name].kind == kind


def test_every_line_is_whole() -> None:
    assert {entry.kind for entry in LINKERD_FAMILIES.values()} == KINDS
    assert all(entry.help for entry in LINKERD_FAMILIES.values())
    assert {entry.unit for entry in LINKERD_FAMILIES.values()} == {"", "seconds", "bytes"}
    assert all(name.endswith(entry.unit) for name, entry in LINKERD_FAMILIES.items())


def test_histograms_and_summaries_are_named_without_ending() -> None:
    compound = [name for name, entry in LINKERD_FAMILIES.items() if entry.kind in ("histogram", "summary")]
    assert not [name for name in compound if name.endswith(("_bucket", "_sum", "_count", "_total"))]
