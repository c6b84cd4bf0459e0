"""The table of families."""

from agent.demo.families import PROXY_FAMILIES


def test_the_two_dialects_name_counters_each_in_its_way() -> None:
    assert PROXY_FAMILIES["request_total"].sample_name == "request_total"
    assert (
        PROXY_FAMILIES["outbound_http_route_request_statuses"].sample_name
        == "outbound_http_route_request_statuses_total"
    )
    assert PROXY_FAMILIES["process_open_fds"].sample_name == "process_open_fds"


def test_the_legacy_part_comes_first_and_has_no_units() -> None:
    legacy = [family.legacy for family in PROXY_FAMILIES.values()]
    assert legacy == sorted(legacy, reverse=True)
    assert not any(family.unit for family in PROXY_FAMILIES.values() if family.legacy)
    assert all(family.name.endswith("_" + family.unit) for family in PROXY_FAMILIES.values() if family.unit)


def test_there_are_counters_that_do_not_end_in_total() -> None:
    odd = [f.name for f in PROXY_FAMILIES.values() if f.kind == "counter" and not f.sample_name.endswith("_total")]
    assert odd == ["opentelemetry_span_export_streams", "opentelemetry_span_export_requests",
                   "opentelemetry_span_exports", "stack_poll_total_ms"]  # fmt: skip
