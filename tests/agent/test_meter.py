"""The self-telemetry says what the ledger says, in valid Prometheus text; and its documentation lists just what there is."""

from __future__ import annotations

import re
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent import log
from agent.ledger import ExporterCounts, Ledger, PipelineCounts, ProcessorCounts, ReceiverCounts
from agent.meter import Instrument, Meter
from agent.metrics_text import prometheus_name
from agent.reload import Reloads

ROOT = Path(__file__).resolve().parents[2]

# Prometheus' text exposition format 0.0.4, "Comments, help text, and type information" and "Line format".
HELP = re.compile(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (?:[^\\\n]|\\\\|\\n)*")
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)")
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{{{LABEL}(?:,{LABEL})*\}})? (\S+)")


class Queue:
    """Stands for an outbox."""

    bytes = 4096
    max_bytes = 65536
    oldest = float("inf")


def ledger(name: str = "linkerd") -> Ledger:
    receiver = ReceiverCounts(polls=7, failed_polls=1, samples=100, out=90, poll_seconds=3.5, last_success=1.5e9)
    receiver.dropped["repeated"] = 10
    quiet = ProcessorCounts(90, 80, 1, 2, Counter(filtered=9))
    exporter = ExporterCounts(80, 60, 0, Counter(expired=5), 6, 2, 3, 4, [lambda: 10, lambda: 5], 1.25)
    return Ledger({name: receiver}, {"metrics": PipelineCounts(90, 80, {"quiet": quiet})}, {"backend": exporter})


def meter(counts: Ledger | None = None, queues: dict[str, Queue] | None = None) -> Meter:
    return Meter(ledger() if counts is None else counts, {} if queues is None else queues, Reloads())


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
    found = samples(meter(queues={"backend": Queue()}).render())
    own = {name: found.pop(name) for name in list(found) if not re.search("receiver|pipeline|processor|exporter", name)}
    assert found == {
        'ebbtide_receiver_polls_total{receiver="linkerd"}': 7,
        'ebbtide_receiver_failed_polls_total{receiver="linkerd"}': 1,
        'ebbtide_receiver_poll_duration_seconds_total{receiver="linkerd"}': 3.5,
        'ebbtide_receiver_last_success_timestamp_seconds{receiver="linkerd"}': 1.5e9,
        'ebbtide_receiver_backfilled_samples_total{receiver="linkerd"}': 0,
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
        'ebbtide_exporter_send_duration_seconds_total{exporter="backend"}': 1.25,
        'ebbtide_exporter_queue_bytes{exporter="backend"}': 4096,
        'ebbtide_exporter_queue_limit_bytes{exporter="backend"}': 65536,
        'ebbtide_exporter_queue_age_seconds{exporter="backend"}': 0,
    }
    assert own.pop("ebbtide_process_resident_memory_bytes") > 10**6
    assert 0 <= own.pop("ebbtide_uptime_seconds") < 60
    assert abs(own.pop("ebbtide_process_start_time_seconds") - time.time()) < 60
    assert own.pop("ebbtide_process_cpu_seconds_total") > 0
    assert 3 <= own.pop("ebbtide_process_open_fds") <= own.pop("ebbtide_process_max_fds")
    (build,) = (name for name in own if name.startswith("ebbtide_build_info"))
    assert own.pop(build) == 1
    assert f'version="{version("ebbtide")}"' in build
    assert own == {
        'ebbtide_config_reloads_total{result="applied"}': 0,
        'ebbtide_config_reloads_total{result="refused"}': 0,
        "ebbtide_config_last_reload_successful": 1,
        "ebbtide_log_lost_lines_total": 0,
    }


def test_it_is_read_anew_each_time() -> None:
    """Components come and go with a reload, and counts with the seconds."""
    counts, queues = ledger(), {"backend": Queue()}
    measured = meter(counts, queues)
    measured.render()
    counts.receivers["linkerd"].polls += 1
    counts.receivers["linkerd"].dropped["folded"] += 3
    counts.receivers["other"] = ReceiverCounts(polls=2)
    del counts.exporters["backend"], queues["backend"]
    found = samples(measured.render())
    assert found['ebbtide_receiver_polls_total{receiver="linkerd"}'] == 8
    assert found['ebbtide_receiver_dropped_samples_total{reason="folded",receiver="linkerd"}'] == 3
    assert found['ebbtide_receiver_polls_total{receiver="other"}'] == 2
    assert not [name for name in found if "exporter" in name]


def test_what_never_was_has_no_time() -> None:
    found = samples(meter(Ledger({"linkerd": ReceiverCounts()}, {}, {"backend": ExporterCounts()})).render())
    assert 'ebbtide_exporter_requests_total{exporter="backend"}' in found
    assert not [name for name in found if "last_" in name and "timestamp" in name]


def test_reloads_are_told() -> None:
    reloads = Reloads(done=2, failed=1, well=False, last=1_500_000_000 * 10**9)
    found = samples(Meter(Ledger(), {}, reloads).render())
    assert {name: value for name, value in found.items() if "config" in name} == {
        'ebbtide_config_reloads_total{result="applied"}': 2,
        'ebbtide_config_reloads_total{result="refused"}': 1,
        "ebbtide_config_last_reload_successful": 0,
        "ebbtide_config_last_reload_timestamp_seconds": 1500000000,
    }


def test_log_lines_that_were_lost_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "losses", log.Losses(7))
    assert samples(meter().render())["ebbtide_log_lost_lines_total"] == 7


async def test_the_age_of_a_queue_is_known_to_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK asks in a thread of its own, where the loop's clock cannot be read."""
    queue = Queue()
    measured = meter(queues={"backend": queue})
    queue.oldest = trio.current_time() - 90
    for text in (measured.render(), await trio.to_thread.run_sync(measured.render)):
        assert 90 <= samples(text)['ebbtide_exporter_queue_age_seconds{exporter="backend"}'] < 120


async def test_ages_are_never_negative(autojump_clock: MockClock) -> None:
    queue = Queue()
    queue.oldest = trio.current_time() + 1000
    assert (
        samples(meter(queues={"backend": queue}).render())['ebbtide_exporter_queue_age_seconds{exporter="backend"}']
        == 0
    )


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "é", 'all\\"\n\\n'])
def test_label_values_are_escaped(name: str) -> None:
    found = samples(meter(ledger(name)).render())
    escaped = name.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    assert f'ebbtide_receiver_polls_total{{receiver="{escaped}"}}' in found


def test_an_empty_ledger_is_valid_text() -> None:
    assert {name.partition("{")[0] for name in samples(meter(Ledger()).render())} >= {"ebbtide_uptime_seconds"}


def test_how_many_targets_there_are_is_told_by_those_who_have_some() -> None:
    found = samples(meter(Ledger({"mesh": ReceiverCounts(targets=0), "linkerd": ReceiverCounts()})).render())
    targets = {name: value for name, value in found.items() if name.startswith("ebbtide_receiver_targets")}
    assert targets == {'ebbtide_receiver_targets{receiver="mesh"}': 0}


def test_instruments_have_names_of_their_own() -> None:
    instruments = meter(Ledger()).instruments
    names = [prometheus_name(one) for one in instruments]
    assert len(set(names)) == len(names) == len({one.name for one in instruments})
    assert all(re.fullmatch(r"ebbtide(\.[a-z][a-z_]*)+", one.name) for one in instruments)


# -- the documentation -----------------------------------------------------------------------------------------------------


def row(one: Instrument) -> str:
    labels = " ".join(f"`{label}`" for label in one.labels)
    return f"| `{prometheus_name(one)}` | {labels} | {one.help} |"


def test_the_page_lists_every_metric_and_no_other() -> None:
    page = (ROOT / "docs/telemetry.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `ebbtide_.*$", page, re.MULTILINE)
    assert rows == [row(one) for one in meter(Ledger()).instruments]


@pytest.mark.parametrize("file", ["docs/alerts.yml", "docs/telemetry.md"])
def test_every_metric_that_is_named_there_exists(file: str) -> None:
    named = set(re.findall(r"\bebbtide_[a-z_]+\b(?!\*)", (ROOT / file).read_text(encoding="utf-8")))
    assert named
    assert named <= {prometheus_name(one) for one in meter(Ledger()).instruments}
