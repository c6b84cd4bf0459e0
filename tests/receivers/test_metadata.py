"""What a server is asked beside the samples, how often, and what its refusals cost."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, urlsplit

import pytest
import trio

from agent.scripted import ScriptedServer, Step, answer, serve, then_close, then_hang
from ebbtide import Client, ReceiverCounts, Target
from receivers import metadata
from receivers.metadata import Enquiry
from receivers.scrape import Scrape
from receivers.types import TypeBook

GZIP = {"Content-Encoding": "gzip"}


def data(value: object, status: str = "success") -> bytes:
    return answer(200, json.dumps({"status": status, "data": value}).encode())


def kind(scrape: Scrape, name: str, job: str = "j") -> str:
    (family,) = scrape.types.decide([(name, ("job", job))])
    return family.kind


@pytest.fixture
def scrape() -> Scrape:
    return Scrape(ReceiverCounts(), TypeBook())


class Asking:
    """An enquiry and the server it asks."""

    def __init__(self, server: ScriptedServer, client: Client):
        self.server = server
        self.enquiry = Enquiry(client, server.url, 5.0, logging.getLogger("ebbtide.test"), "linkerd")

    def answers(self, *steps: Step) -> None:
        self.server.steps = iter(steps)

    def asked(self) -> list[str]:
        return [request.target for request in self.server.requests]


@pytest.fixture
async def asking(nursery: trio.Nursery) -> AsyncIterator[Asking]:
    client = Client()
    yield Asking(await serve(nursery, []), client)
    await client.aclose()


# -- types --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fresh", "asked"), [(metadata._FRESH, 1), (0.0, 3)])
async def test_types_are_asked_for_where_they_are_not_fresh(
    asking: Asking, scrape: Scrape, monkeypatch: pytest.MonkeyPatch, fresh: float, asked: int
) -> None:
    monkeypatch.setattr(metadata, "_FRESH", fresh)
    asking.answers(data({"odd": [{"type": "counter"}]}), data({}), data({}))
    for _ in range(3):
        await asking.enquiry.types(scrape)
    assert asking.asked() == ["/api/v1/metadata"] * asked
    assert kind(scrape, "odd") == "counter"


REFUSALS: dict[str, tuple[Step, str]] = {
    "403": (answer(403), "the server answered 403"),
    "404": (answer(404), "the server answered 404"),
    "500": (answer(500), "the server answered 500"),
    "not JSON": (answer(200, b"<html>"), "it is not JSON"),
    "nested": (answer(200, b"[" * 100_000), "it is not JSON"),
    "an error": (data(None, "error"), "not a successful one"),
    "a list": (answer(200, b"[]"), "not a successful one"),
    "not gzip": (answer(200, b"{}", GZIP), "it is not gzip"),
    "broken off": (then_close(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "the answer ended early"),
}


@pytest.mark.parametrize(("step", "said"), REFUSALS.values(), ids=REFUSALS)
async def test_what_cannot_be_had_costs_one_warning(
    asking: Asking,
    scrape: Scrape,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    step: Step,
    said: str,
) -> None:
    monkeypatch.setattr(metadata, "_AGAIN", 0.0)
    for _ in range(3):
        asking.answers(step)
        await asking.enquiry.types(scrape)
    assert len(asking.asked()) == 3
    (message,) = caplog.messages
    assert message.startswith("receivers.linkerd: cannot ")
    assert said in message
    assert message.endswith("types come from the built-in table and the names' suffixes instead")


async def test_a_refusal_that_is_over_is_said(
    asking: Asking, scrape: Scrape, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "ebbtide.test")
    monkeypatch.setattr(metadata, "_AGAIN", 0.0)
    monkeypatch.setattr(metadata, "_FRESH", 0.0)
    for step in (answer(404), answer(404), data({}), data({})):
        asking.answers(step)
        await asking.enquiry.types(scrape)
    assert len(caplog.messages) == 2
    assert caplog.messages[1] == "receivers.linkerd: /api/v1/metadata is answered again, after 2 times in vain"


@pytest.mark.parametrize("value", [None, [], "x", {"a": None}, {"a": [None, {}]}, {"a": {"type": "counter"}}])
async def test_metadata_of_a_wrong_shape_is_passed_over(asking: Asking, scrape: Scrape, value: object) -> None:
    asking.answers(data(value))
    await asking.enquiry.types(scrape)
    assert kind(scrape, "a") == "unknown"


async def test_a_slow_server_is_waited_for_within_the_timeout(
    asking: Asking, scrape: Scrape, caplog: pytest.LogCaptureFixture
) -> None:
    asking.answers(then_hang(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"))
    asking.enquiry._timeout = 0.1
    with trio.fail_after(3):
        await asking.enquiry.types(scrape)
    assert "it took more than 100ms" in caplog.text


@pytest.mark.parametrize("named", [True, False])
async def test_disputed_types_are_learned_by_job(asking: Asking, scrape: Scrape, named: bool) -> None:
    """Prometheus leaves the name out where it was asked for one metric; others may not."""
    words = {"odd": ("counter", "gauge"), "strange": ("gauge", "counter")}
    asking.answers(
        data({name: [{"type": a}, {"type": b}] for name, (a, b) in words.items()}),
        *(
            data(
                [
                    {"target": {"job": job}, "type": word, **({"metric": name} if named else {})}
                    for job, word in zip("ab", types, strict=True)
                ]
            )
            for name, types in words.items()
        ),
    )
    await asking.enquiry.types(scrape)
    assert [kind(scrape, "odd", job) for job in "abc"] == ["counter", "gauge", "unknown"]
    assert [kind(scrape, "strange", job) for job in "ab"] == ["gauge", "counter"]
    assert asking.asked()[1:] == [f"/api/v1/targets/metadata?metric={name}" for name in words]


async def test_many_disputes_are_asked_for_at_once(asking: Asking, scrape: Scrape) -> None:
    names = [f"m{number}" for number in range(metadata._MAX_CONFLICTS + 1)]
    asking.answers(
        data({name: [{"type": "counter"}, {"type": "gauge"}] for name in names}),
        data([{"target": {"job": "a"}, "metric": name, "type": "counter"} for name in names]),
    )
    await asking.enquiry.types(scrape)
    assert asking.asked()[1:] == ["/api/v1/targets/metadata"]
    assert {kind(scrape, name, "a") for name in names} == {"counter"}


async def test_a_refused_dispute_ends_the_asking(
    asking: Asking, scrape: Scrape, caplog: pytest.LogCaptureFixture
) -> None:
    disputed = {name: [{"type": "counter"}, {"type": "gauge"}] for name in "abc"}
    asking.answers(data(disputed), answer(404))
    await asking.enquiry.types(scrape)
    assert len(asking.asked()) == 2
    assert "disputed types come from the built-in table" in caplog.text


# -- targets ------------------------------------------------------------------------------------------------------------


def selectors(target: str) -> list[str]:
    return [value for name, value in parse_qsl(urlsplit(target).query) if name == "match[]"]


async def test_targets_are_learned_from_their_up(asking: Asking, scrape: Scrape) -> None:
    a, b = ("proxy", "1:1"), ("proxy", "2:1")
    asking.answers(
        answer(
            200,
            b'# TYPE up untyped\nup{job="proxy",instance="1:1",pod="web",__type__="gauge"} 1 1795362000000\n'
            b'other{job="proxy",instance="2:1",pod="api"} 1\n',
        )
    )
    await asking.enquiry.targets(scrape, {a, b})
    assert selectors(asking.asked()[0]) == ['up{job="proxy"}']
    assert scrape.targets.target(a) is Target.of({"job": "proxy", "instance": "1:1", "pod": "web"})
    assert scrape.targets.target(b) is None


async def test_jobs_are_quoted(asking: Asking, scrape: Scrape) -> None:
    asking.answers(answer(200))
    await asking.enquiry.targets(scrape, {('a"b', "i"), ("c\\d\n", "i"), ("c\\d\n", "j")})
    assert selectors(asking.asked()[0]) == ['up{job="a\\"b"}', 'up{job="c\\\\d\\n"}']


async def test_many_jobs_are_asked_for_at_once(asking: Asking, scrape: Scrape) -> None:
    asking.answers(answer(200))
    await asking.enquiry.targets(scrape, {(f"j{n}", "i") for n in range(metadata._MAX_JOBS + 1)})
    assert selectors(asking.asked()[0]) == ["up"]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (answer(403), "the server answered 403"),
        (answer(200, b"<html>\n"), "cannot read line 1"),
        (then_close(), "closed"),
    ],
)
async def test_targets_that_cannot_be_had_cost_one_warning(
    asking: Asking, scrape: Scrape, caplog: pytest.LogCaptureFixture, step: Step, said: str
) -> None:
    for _ in range(2):
        asking.answers(step)
        await asking.enquiry.targets(scrape, {("j", "i")})
    (message,) = caplog.messages
    assert said in message
    assert message.endswith("which labels are the targets' own is taken from the built-in list instead")
    assert scrape.targets.undecided({("j", "i")}) == {("j", "i")}


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ebbtide.test")
