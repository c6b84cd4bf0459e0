"""`ebbtide preview` and `record` as processes, against the demo's mesh, with a destination that must not be touched."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.processes import COMMAND, Demo, environment
from tests.real.servers import HttpServer, Reply

SECONDS = 60

FILE = """
[receivers.linkerd]
type = "federate"
url = "{url}"
[processors.quiet]
type = "filter"
drop = ['{{__name__=~"stack_.*"}}']
[exporters.http]
type = "otlp"
endpoint = "http://127.0.0.1:{port}"
[exporters.grpc]
type = "otlp"
endpoint = "http://127.0.0.1:{port}"
protocol = "grpc"
[pipelines.metrics]
receivers = ["linkerd"]
processors = ["quiet"]
exporters = ["http", "grpc"]
"""


class Trap:
    """A port on which nobody is to knock."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def untouched(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    assert trap.untouched()
    trap.socket.close()


def ebbtide(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_live_preview_touches_nothing(demo: Demo, trap: Trap, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(FILE.format(url=demo.prometheus, port=trap.port))
    done = ebbtide(tmp_path, "preview")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    assert re.search(r"^    - ", done.stdout, re.MULTILINE)
    assert re.search(r"^    \+ resource: ", done.stdout, re.MULTILINE)
    assert [file.name for file in tmp_path.iterdir()] == ["agent.toml"]


def test_a_recorded_page_previews_as_the_poll_did(demo: Demo, trap: Trap, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(FILE.format(url=demo.prometheus, port=trap.port))
    assert ebbtide(tmp_path, "record", "--page", "page.gz").returncode == 0
    (tmp_path / "agent.toml").write_text(FILE.format(url=f"http://127.0.0.1:{trap.port}", port=trap.port))
    done = ebbtide(tmp_path, "preview", "--page", "page.gz", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    rules = {rule["rule"] for rule in document["receivers"]["linkerd"]["types"]}
    assert "metadata" in rules
    assert not rules & {"suffix", "none"}
    pipeline = document["pipelines"]["metrics"]
    quiet = pipeline["processors"][0]
    assert quiet["in"] == quiet["out"] + quiet["dropped"]["filtered"]
    assert quiet["dropped"]["filtered"] > 0
    for exporter in document["exporters"].values():
        assert exporter["in"] == exporter["samples"] == pipeline["out"]
        assert 0 < exporter["points"] < exporter["samples"]
    assert document["exporters"]["http"]["sealed_bytes"] < document["exporters"]["http"]["bytes"]
    assert document["exporters"]["grpc"]["sealed_bytes"] == document["exporters"]["grpc"]["bytes"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["agent.toml", "page.gz", "page.gz.json"]


def test_the_policy_is_told_where_linkerd_says_no(trap: Trap, tmp_path: Path) -> None:
    refusing = HttpServer(lambda handler: Reply(403, b""))
    try:
        (tmp_path / "agent.toml").write_text(FILE.format(url=refusing.url, port=trap.port))
        for command in (["preview"], ["record", "--page", "page"]):
            done = ebbtide(tmp_path, *command)
            assert (done.returncode, done.stdout) == (1, "")
            assert "kind: AuthorizationPolicy" in done.stderr
            assert "Traceback" not in done.stderr
    finally:
        refusing.close()


def on_a_terminal(folder: Path, **more: str) -> str:
    child, descriptor = pty.fork()
    if child == 0:
        os.chdir(folder)
        program = [*COMMAND, "preview", "--page", "page"]
        os.execve(program[0], program, environment(TERM="xterm", COLUMNS="80", **more))
    written = b""
    try:
        while piece := os.read(descriptor, 1 << 16):
            written += piece
    except OSError:  # Linux's way to say that the other side is closed
        pass
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return written.decode()


def test_colours_on_a_terminal_unless_unwanted(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(FILE.format(url="http://127.0.0.1:9", port=9))
    (tmp_path / "page").write_text('request_total{job="x",instance="a:1"} 1\n')
    coloured = on_a_terminal(tmp_path)
    assert "\x1b[31m    - " in coloured
    assert "\x1b[32m    + " in coloured
    assert "\x1b" not in on_a_terminal(tmp_path, NO_COLOR="1")


# -- pages of others ---------------------------------------------------------------------------------------------------


def pages(vectors: Path) -> Iterator[tuple[str, bytes]]:
    """Walk all bodies that the vectors have, good and bad."""
    for folder in ("real_pages", "linkerd"):
        for path in sorted((vectors / folder).iterdir()):
            yield path.name, path.read_bytes()
    for archive in ("odd_A", "via_prometheus"):
        with tarfile.open(vectors / "linkerd_proxy_recorded" / f"{archive}.tar.xz") as opened:
            for member in opened:
                file = opened.extractfile(member)
                if file is not None:
                    yield f"{archive}/{member.name}", file.read()
    for name in ("prometheus_api/federate.json", "prometheus_scrape/scrape.json", "prometheus_textparse/text.json"):
        for number, text in enumerate(texts(json.loads((vectors / name).read_text(encoding="utf-8")))):
            yield f"{name}:{number}", text.encode(errors="surrogatepass")


def texts(value: Any) -> Iterator[str]:
    """Walk the texts in a document that may be a page."""
    if isinstance(value, str):
        if "\n" in value:
            yield value
    else:
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from texts(item)


def test_no_page_breaks_it(vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from agent.config import load
    from agent.preview import PreviewOptions, preview

    file, page = tmp_path / "agent.toml", tmp_path / "page"
    file.write_text(FILE.format(url="http://127.0.0.1:9", port=9))
    config = load(file, {})
    outcomes = {0: 0, 1: 0}
    for name, body in pages(vectors):
        page.write_bytes(body)
        status = preview(config, PreviewOptions(page=page))
        out, err = capsys.readouterr()
        outcomes[status] += 1
        assert "Traceback" not in err, name
        assert (max(map(len, out.splitlines())) <= 80) if out else err.startswith("cannot "), name
        assert bool(out) is (status == 0), name
    assert outcomes[0] > 20
    assert outcomes[1] > 20
