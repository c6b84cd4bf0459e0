"""A small file, and a page for it."""

from __future__ import annotations

from pathlib import Path

import pytest

T0 = 1_795_362_000_000  # ms

FILE = """\
[receivers.linkerd]
type = "federate"
url = "http://127.0.0.1:9"

[processors.quiet]
type = "filter"
drop = ['{__name__=~"stack_.*"}']

[processors.tidy]
type = "relabel"
rules = [
  { action = "labeldrop", regex = "pod_template_hash" },
  { source_labels = ["tls"], regex = "true", target_label = "tls", replacement = "yes" },
]

[exporters.backend]
type = "otlp"
endpoint = "http://127.0.0.1:9"
compression = "none"

[pipelines.metrics]
receivers = ["linkerd"]
processors = ["quiet", "tidy"]
exporters = ["backend"]
"""

PROXY = (
    'control_plane_ns="linkerd",deployment="{app}",instance="10.0.0.{n}:4191",job="linkerd-proxy",namespace="shop",'
    'pod="{app}-5f8d7-{n}",pod_template_hash="5f8d7"'
)


def page() -> bytes:
    """Two proxies, each with a counter, a histogram and two series that nobody wants."""
    lines = []
    for n, app in ((1, "web"), (2, "api")):
        target = PROXY.format(app=app, n=n)
        lines.append(f"up{{{target}}} 1 {T0}")
        lines.append(f'request_total{{direction="inbound",tls="true",{target}}} 12 {T0}')
        lines += [f'response_latency_ms_bucket{{le="{le}",{target}}} {n} {T0}' for le in ("1", "50", "+Inf")]
        lines += [f"response_latency_ms_{part}{{{target}}} {n} {T0}" for part in ("sum", "count")]
        lines += [f'stack_{what}_total{{name="tower",{target}}} 3 {T0}' for what in ("create", "drop")]
        lines.append(f"strange_thing{{{target}}} 0.5 {T0}")
    lines.append(f'odd_total{{instance="o:1",job="other"}} 1 {T0}')
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file and the page, which is the present one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent.toml").write_text(FILE)
    (tmp_path / "page.prom").write_bytes(page())
    return tmp_path
