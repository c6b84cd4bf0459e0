"""The commands as an operator meets them: what they print, what they refuse, and that nothing else is touched."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import agent.preview as preview_module
from agent.batch import Batch, Row
from agent.cli import main
from agent.config import Config, Declared
from agent.plugin import ConfigError, Emit, Exporter, Payload, ReceiveError, Receiver
from agent.preview import PreviewOptions, chosen, gathered, preview, record
from agent.recording import Recording
from agent.series import Series
from agent.settings import AgentSettings, OutboxSettings, PipelineSettings, Settings

Capture = pytest.CaptureFixture[str]


class Source(Receiver[Any]):
    """Polls, records and replays one sample."""

    async def run(self, emit: Emit) -> None:
        raise AssertionError("a preview runs nothing")

    async def once(self, emit: Emit) -> None:
        self.counts.polls += 1
        self.counts.samples += 1
        await emit(Batch.of([Row(Series.of("a", {"job": "j"}), 1.0, 5, 0, False)]))

    async def record(self) -> Recording:
        return Recording(b"a 1\n", {"q": "x"}, 5, where="the source")

    async def replay(self, recording: Recording, emit: Emit) -> None:
        await self.once(emit)


class Sink(Exporter[Any]):
    """Must never be asked to send."""

    closed = 0

    def encode(self, batch: Batch) -> list[Payload]:
        return [Payload(b"", b"x" * len(batch), len(batch), len(batch))]

    async def send(self, payload: Payload) -> None:
        raise AssertionError("a preview sends nothing")

    async def aclose(self) -> None:
        Sink.closed += 1


def config(
    receiver: type[Receiver[Any]] = Source, *more: type[Receiver[Any]], warnings: list[str] | None = None
) -> Config:
    receivers = {
        f"r{n}": Declared(f"r{n}", "receivers", f"type{n}", cls, Settings(), None, 1)
        for n, cls in enumerate((receiver, *more))
    }
    sink = Declared("e", "exporters", "sink", Sink, Settings(), OutboxSettings(), 1)
    pipeline = PipelineSettings(receivers=list(receivers), exporters=["e"])
    settings = AgentSettings(state_dir="/nowhere/at/all", admin="127.0.0.1:1")
    return Config(Path("f.toml"), settings, receivers, {}, {"e": sink}, {"m": pipeline}, warnings or [])


def failing(error: Exception, method: str = "once") -> type[Source]:
    async def fail(self: Source, *args: object) -> None:
        raise error

    return type("Failing", (Source,), {method: fail})


def test_a_poll_is_shown_and_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    closed = Sink.closed
    assert preview(config(warnings=["f.toml:1: odd"]), PreviewOptions()) == 0
    out, err = capsys.readouterr()
    assert out.startswith("one poll through f.toml: nothing was sent, nothing was written\n\nreceiver r0  type0\n")
    assert "would send 1 sample as 1 point in 1 request: 1 B\n" in out
    assert err == "warning: f.toml:1: odd\n"
    assert list(tmp_path.iterdir()) == []
    assert Sink.closed == closed + 1


def test_one_receiver_of_several(capsys: Capture) -> None:
    assert preview(config(Source, failing(ReceiveError("cannot"))), PreviewOptions(receiver="r0", as_json=True)) == 0
    assert list(json.loads(capsys.readouterr().out)["receivers"]) == ["r0"]


@pytest.mark.parametrize(
    ("error", "said"),
    [(ReceiveError("cannot read it: 403"), "cannot read it: 403\n"), (ZeroDivisionError("oops"), "receiver r0 failed: a bug of this receiver\nTraceback")],
)  # fmt: skip
def test_a_failed_poll_is_a_sentence_and_1(error: Exception, said: str, capsys: Capture) -> None:
    assert preview(config(failing(error)), PreviewOptions()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert preview(config(failing(error)), PreviewOptions(as_json=True)) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] is True
    assert document["messages"][0].startswith(said.splitlines()[0])
    assert (document["receivers"]["r0"]["polls"], document["receivers"]["r0"]["failed_polls"]) == (1, 1)


def test_of_several_polls_those_that_went_well_are_shown(capsys: Capture) -> None:
    assert preview(config(Source, failing(ReceiveError("cannot"))), PreviewOptions()) == 1
    out, err = capsys.readouterr()
    assert "receiver r1  type1\n  1 poll, 1 failed, 0 samples read, 0 passed on\n" in out
    assert err == "cannot\n"


def test_an_empty_poll_is_pointed_at(capsys: Capture) -> None:
    class Empty(Source):
        async def once(self, emit: Emit) -> None:
            self.counts.polls += 1

    assert preview(config(Empty), PreviewOptions()) == 0
    out, err = capsys.readouterr()
    assert "  nothing is left to be sent\n" in out
    assert err == "warning: receivers.r0: there are no samples; look at what it asks for\n"


@pytest.mark.parametrize(
    ("receiver", "why"), [(None, "there are several receivers"), ("x", "no pipeline has a receiver 'x'")]
)
def test_which_receiver_is_2(receiver: str | None, why: str, tmp_path: Path, capsys: Capture) -> None:
    sentence = f"cannot tell which receiver is meant: {why}; add --receiver with one of: r0, r1\n"
    assert preview(config(Source, Source), PreviewOptions(page=tmp_path / "p", receiver=receiver)) == 2
    assert capsys.readouterr().err == f"ebbtide preview: {sentence}"
    assert record(config(Source, Source), tmp_path / "p", receiver) == 2
    assert capsys.readouterr().err == f"ebbtide record: {sentence}"
    assert chosen(config(Source, Source), "r1") == "r1"


def test_record_and_preview(tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "p.gz"
    assert record(config(), page) == 0
    assert capsys.readouterr().out == (
        f"recorded 4 bytes of the source in {page}; what was asked beside, in {page}.json\n"
    )  # fmt: skip
    assert gzip.decompress(page.read_bytes()) == b"a 1\n"
    assert preview(config(), PreviewOptions(page=page, as_json=True)) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["page"], document["messages"]) == (str(page), [])
    assert preview(config(Source, Source), PreviewOptions(page=page, receiver="r1")) == 1
    assert capsys.readouterr().err == (
        f"cannot read {page} with receivers.r1: it was recorded by a receiver of type type0, and this one is of type type1; "
        "choose another with --receiver\n"
    )


def test_record_looks_for_the_place_before_it_polls(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "p").write_text("mine")
    assert record(config(failing(AssertionError("polled"), "record")), tmp_path / "p") == 1
    assert capsys.readouterr().err == f"cannot write {tmp_path}/p: it exists; choose another name, or add --force\n"
    assert record(config(), tmp_path / "p", force=True) == 0


def test_a_poll_that_cannot_be_recorded_leaves_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert record(config(failing(ReceiveError("cannot poll"), "record")), tmp_path / "p") == 1
    assert capsys.readouterr().err == "cannot poll\n"
    assert list(tmp_path.iterdir()) == []


def test_receivers_without_pages_say_so(tmp_path: Path) -> None:
    class Pageless(Source):
        record = Receiver.record
        replay = Receiver.replay

    (tmp_path / "p").write_text("a 1\n")
    with pytest.raises(ConfigError, match="cannot record a page of r0: receivers of its type save none"):
        record(config(Pageless), tmp_path / "new")
    with pytest.raises(ConfigError, match="cannot read a saved page with r0: receivers of its type take none"):
        preview(config(Pageless), PreviewOptions(page=tmp_path / "p"))


def test_an_interrupted_poll_is_1(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    def interrupted(*args: object) -> None:
        raise BaseExceptionGroup("nursery", [KeyboardInterrupt()])

    monkeypatch.setattr("trio.run", interrupted)
    assert preview(config(), PreviewOptions()) == 1
    assert record(config(), tmp_path / "p") == 1
    assert capsys.readouterr() == ("", 2 * "interrupted before the poll was over; there is nothing to show\n")


def test_messages_are_gathered_once_each_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "MAX_MESSAGES", 2)
    log = logging.getLogger("ebbtide")
    before = (log.propagate, log.level, list(log.handlers))
    with gathered() as told:
        for text in ("a", "a", "b", "c", "b", "d"):
            logging.getLogger("ebbtide.x").warning(text)
        logging.getLogger("ebbtide.x").info("quiet")
        assert told() == ["warning: a", "warning: b", "warning: and 2 warnings more"]
    assert (log.propagate, log.level, list(log.handlers)) == before


# -- the real receiver -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot preview page.prom: there are no samples in it\n"),
        (b"# HELP a b\n", "cannot preview page.prom: there are no samples in it\n"),
        (b"up 1", "cannot read line 1 of page.prom, 'up 1': the page ends in the middle of a line: it was cut short\n"),
        (b"\0\xff\n", "cannot read line 1 of page.prom, "),
        (b"<html>\n", "cannot read line 1 of page.prom, '<html>': "),
        (b'{"status": "success"}\n', "cannot read line 1 of page.prom, "),
        (
            gzip.compress(b"up 1\n", mtime=0)[:-1],
            "cannot read the page page.prom: it begins like gzip and does not end like it",
        ),
        (None, "cannot read the page page.prom: No such file or directory"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_pages_that_are_none(content: bytes | None, said: str, capsys: Capture) -> None:
    path = Path("page.prom")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert main(["preview", "--page", "page.prom"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)


def test_a_page_larger_than_max_body(folder: Path, capsys: Capture) -> None:
    text = (folder / "agent.toml").read_text()
    (folder / "agent.toml").write_text(text.replace('url = "http', 'max_body = "1KiB"\nurl = "http', 1))
    assert main(["preview", "--page", "page.prom"]) == 1
    assert capsys.readouterr().err == (
        "cannot read the page page.prom: it is larger than 1KiB; raise `max_body` of its receiver\n"
    )


def test_a_bare_page_says_what_it_lacks(folder: Path, capsys: Capture) -> None:
    assert main(["preview", "--page", "page.prom"]) == 0
    assert capsys.readouterr().err.startswith("warning: page.prom came without the server's metadata and targets: ")
