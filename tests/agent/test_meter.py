"""The self-telemetry says what the ledger says, in valid Prometheus text."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from agent.ledger import ExporterCounts, Ledger, PipelineCounts, ProcessorCounts, ReceiverCounts
from agent.meter import Meter

# Prometheus' text exposition format 0.0.4, "Comments, help text, and type information" and "Line format".
HELP = re.compile(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (?:[^\\\n]|\\\\|\\n)*")
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)")
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{{{LABEL}(?:,{LABEL})*\}})? (\S+)")


class Queue:
    """Stands for an outbox."""

    bytes = 4096


def ledger(name: str = "linkerd") -> Ledger:
    receiver = ReceiverCounts(polls=7, failed_polls=1, samples=100, out=90)
    receiver.dropped["repeated"] = 10
    quiet = ProcessorCounts(90, 80, 1, 2, Counter(filtered=9))
    exporter = ExporterCounts(80, 60, 0, Counter(expired=5), 6, 2, 3, 4, lambda: 15)
    return Ledger({name: receiver}, {"metrics": PipelineCounts(90, 80, {"quiet": quiet})}, {"backend": exporter})


def samples(text: str) -> dict[str, float]:
    """Check every line against the format, and return the samples."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    families: list[str] = []
    typed = ""
    for line in text.splitlines():
        if line.startswith("# HELP"):
            match = HELP.fullmatch(line)
            assert match, line
            assert match[1] not in families
            families.append(match[1])
        elif line.startswith("#"):
            match = TYPE.fullmatch(line)
            assert match, line
            assert match[1] == families[-1]
            typed = match[2]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == families[-1]
            assert match[1].endswith("_total") == (typed == "counter")
            assert line.rpartition(" ")[0] not in found
            found[line.rpartition(" ")[0]] = float(match[3])
    return found


def test_every_number_of_the_ledger_is_there() -> None:
    found = samples(Meter(ledger(), {"backend": Queue()}).render())
    process = {name: found.pop(name) for name in list(found) if "{" not in name}
    assert found == {
        'ebbtide_receiver_polls_total{receiver="linkerd"}': 7,
        'ebbtide_receiver_failed_polls_total{receiver="linkerd"}': 1,
        'ebbtide_receiver_samples_total{receiver="linkerd"}': 100,
        'ebbtide_receiver_added_samples_total{kind="scrape",receiver="linkerd"}': 0,
        'ebbtide_receiver_added_samples_total{kind="stale",receiver="linkerd"}': 0,
        'ebbtide_receiver_dropped_samples_total{reason="repeated",receiver="linkerd"}': 10,
        'ebbtide_receiver_dropped_samples_total{reason="torn",receiver="linkerd"}': 0,
        'ebbtide_receiver_out_samples_total{receiver="linkerd"}': 90,
        'ebbtide_pipeline_in_samples_total{pipeline="metrics"}': 90,
        'ebbtide_pipeline_out_samples_total{pipeline="metrics"}': 80,
        'ebbtide_processor_in_samples_total{pipeline="metrics",processor="quiet"}': 90,
        'ebbtide_processor_out_samples_total{pipeline="metrics",processor="quiet"}': 80,
        'ebbtide_processor_added_samples_total{pipeline="metrics",processor="quiet"}': 1,
        'ebbtide_processor_merged_samples_total{pipeline="metrics",processor="quiet"}': 2,
        'ebbtide_processor_dropped_samples_total{pipeline="metrics",processor="quiet",reason="filtered"}': 9,
        'ebbtide_exporter_in_samples_total{exporter="backend"}': 80,
        'ebbtide_exporter_restored_samples_total{exporter="backend"}': 0,
        'ebbtide_exporter_sent_samples_total{exporter="backend"}': 60,
        'ebbtide_exporter_held_samples{exporter="backend"}': 15,
        'ebbtide_exporter_dropped_samples_total{exporter="backend",reason="expired"}': 5,
        'ebbtide_exporter_sent_points_total{exporter="backend"}': 6,
        'ebbtide_exporter_rejected_points_total{exporter="backend"}': 2,
        'ebbtide_exporter_retries_total{exporter="backend"}': 3,
        'ebbtide_exporter_requests_total{exporter="backend"}': 4,
        'ebbtide_exporter_queue_bytes{exporter="backend"}': 4096,
    }
    assert set(process) == {
        "ebbtide_uptime_seconds",
        "ebbtide_process_cpu_seconds_total",
        "ebbtide_process_resident_memory_bytes",
    }
    assert process["ebbtide_process_resident_memory_bytes"] > 10**6
    assert 0 <= process["ebbtide_uptime_seconds"] < 60
    assert process["ebbtide_process_cpu_seconds_total"] > 0


def test_it_is_read_anew_each_time() -> None:
    counts = ledger()
    meter = Meter(counts, {})
    meter.render()
    counts.receivers["linkerd"].polls += 1
    counts.receivers["linkerd"].dropped["folded"] += 3
    found = samples(meter.render())
    assert found['ebbtide_receiver_polls_total{receiver="linkerd"}'] == 8
    assert found['ebbtide_receiver_dropped_samples_total{reason="folded",receiver="linkerd"}'] == 3


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "é", 'all\\"\n\\n'])
def test_label_values_are_escaped(name: str) -> None:
    found = samples(Meter(ledger(name), {}).render())
    escaped = name.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    assert f'ebbtide_receiver_polls_total{{receiver="{escaped}"}}' in found


def test_an_empty_ledger_is_valid_text() -> None:
    assert {name.partition("{")[0] for name in samples(Meter(Ledger(), {}).render())} >= {"ebbtide_uptime_seconds"}


def test_another_reader_can_ship_the_same() -> None:
    reader = InMemoryMetricReader()
    Meter(ledger(), {}, [reader])
    data = reader.get_metrics_data()
    assert data is not None
    (resource,) = data.resource_metrics
    assert resource.resource.attributes["service.name"] == "ebbtide"
    assert "ebbtide.receiver.polls" in {metric.name for metric in resource.scope_metrics[0].metrics}
