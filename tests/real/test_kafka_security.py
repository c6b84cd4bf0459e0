"""Listeners with TLS and SASL, and rights: who may, delivers; who may not, is told why, holds the data, and shows no secret."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation

from tests.real.kafka import ADMIN, ALICE, Kafka
from tests.real.kafka_load import Pods, assert_complete, books, caught_up, pipeline, stopped_well, to, untroubled
from tests.real.kafka_reader import read_topic
from tests.real.papers import Papers
from tests.real.processes import Agent, once
from tests.real.servers import HttpServer, Reply
from tests.real.waiting import until

WRONG = "wr0ng-pa55w0rd"
PROVED = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def pods() -> Iterator[Pods]:
    with Pods() as running:
        yield running


class Tokens(HttpServer):
    """An OpenID provider's token endpoint: gives who knows the secret a token that says who it is."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        super().__init__(self._token)

    def _token(self, handler: BaseHTTPRequestHandler) -> Reply:
        asked = handler.rfile.read(int(handler.headers.get("Content-Length", 0))).decode()
        basic = base64.b64decode(handler.headers["Authorization"].removeprefix("Basic ")).decode()
        self.asked.append({"form": asked, "basic": basic})
        if basic != ":".join(ALICE):
            return Reply(401, b'{"error": "invalid_client", "error_description": "who is that?"}', _JSON)
        now = int(time.time())
        parts = {"alg": "none"}, {"sub": ALICE[0], "iat": now, "exp": now + 600, "scope": "metrics"}
        token = ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts) + "."
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": 600}
        return Reply(200, json.dumps(answer).encode(), _JSON)


_JSON = {"Content-Type": "application/json"}


def sasl(mechanism: str, user: tuple[str, str] = ADMIN, **more: str) -> str:
    name, password = user
    rest = "".join(f', {key} = "{value}"' for key, value in more.items())
    return f'sasl = {{ mechanism = "{mechanism}", username = "{name}", password = "{password}"{rest} }}\n'


def tls(papers: Papers, *, ca: Path | None = None, client: bool = False) -> str:
    files = {"ca_file": ca or papers.ca}
    if client:
        files |= {"cert_file": papers.client.cert, "key_file": papers.client.key}
    return "tls = { " + ", ".join(f'{name} = "{file}"' for name, file in files.items()) + " }\n"


# -- listeners -----------------------------------------------------------------------------------------------------------


def right_ones(papers: Papers) -> dict[str, tuple[str, str]]:
    """Listener and options by name: each is let in."""
    ways = {
        "tls": ("SSL", tls(papers)),
        "mtls": ("MTLS", tls(papers, client=True)),
        "unverified": ("MISNAMED", "tls = { insecure_skip_verify = true }\n"),
    }
    for mechanism in PROVED:
        ways[f"sasl-{mechanism}"] = ("SASL_PLAINTEXT", sasl(mechanism))
        ways[f"sasl-tls-{mechanism}"] = ("SASL_SSL", sasl(mechanism) + tls(papers))
    return ways


def test_who_is_let_in_delivers(kafka: Kafka, tmp_path: Path) -> None:
    ways = right_ones(kafka.papers)
    exporters = {id: to(kafka.address(listener), f"by-{id}", options) for id, (listener, options) in ways.items()}
    with Pods(pods=4, series=5) as pods:
        status, ledger, process = once(tmp_path, pipeline(pods.url, exporters))
        assert status == 0, process.stderr
        for id in ways:
            assert ledger["exporters"][id]["sent"] == ledger["exporters"][id]["in"] > 0
            assert_complete(read_topic(kafka.address(), f"by-{id}"), pods)
    untroubled(process)  # type: ignore[arg-type]
    assert ADMIN[1] not in process.stderr


@dataclass(frozen=True)
class Stranger:
    """Somebody who is not let in: by which listener, with what, and what the log says of it."""

    listener: str
    options: str
    says: str


def strangers(papers: Papers, other: Papers) -> dict[str, Stranger]:
    fails = r"TLS with a broker fails; check `tls`.*"
    unknown = fails + "certificate verify failed"
    refused = r"the brokers do not accept who the agent says it is; check `sasl`.*Authentication failed"
    nobody = ("nobody", WRONG)
    found = {
        "unknown-ca": Stranger("SSL", tls(papers, ca=other.ca), unknown),
        "no-ca": Stranger("SSL", "tls = {}\n", unknown),
        "another-host": Stranger("MISNAMED", tls(papers), unknown),
        "no-client": Stranger("MTLS", tls(papers), fails + "(bad certificate|certificate required)"),
        "foreign-client": Stranger(
            "MTLS",
            f'tls = {{ ca_file = "{papers.ca}", cert_file = "{other.client.cert}", key_file = "{other.client.key}" }}\n',
            fails + "(bad certificate|certificate required)",
        ),
        "plain-to-tls": Stranger("SSL", "", r"cannot reach any broker; check .* want `tls`"),
        "tls-to-plain": Stranger("PLAINTEXT", tls(papers), fails + "PLAINTEXT broker listener"),
        "plain-to-sasl": Stranger("SASL_PLAINTEXT", "", r"cannot reach any broker; check .* or `sasl`"),
        "sasl-to-plain": Stranger("PLAINTEXT", sasl("PLAIN"), r"the brokers do not accept .*; check `sasl`"),
    }
    for mechanism in PROVED:
        found[f"wrong-{mechanism}"] = Stranger("SASL_PLAINTEXT", sasl(mechanism, (ALICE[0], WRONG)), refused)
        found[f"nobody-{mechanism}"] = Stranger("SASL_SSL", sasl(mechanism, nobody) + tls(papers), refused)
    return found


@pytest.fixture(scope="module")
def turned_away(
    kafka_of_all: Kafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Stranger], dict[str, dict[str, Any]], str]]:
    """Strangers, the ledger's line of each and the log, after one agent had tried all of them for some time."""
    kafka, folder = kafka_of_all.start(), tmp_path_factory.mktemp("strangers")
    all_of_them = strangers(kafka.papers, Papers(folder / "others"))
    exporters = {id: to(kafka.address(one.listener), f"not-{id}", one.options) for id, one in all_of_them.items()}
    with Pods(pods=4, series=5) as pods:
        text = pipeline(pods.url, exporters, agent='shutdown_timeout = "500ms"')
        with Agent(folder, text) as agent:
            until(
                lambda: all(re.search(rf"exporter {id}: {one.says}", agent.stderr) for id, one in all_of_them.items()),
                "each is told",
                20,
            )
            pods.more(5)
            ledger = agent.ledger()["exporters"]
            assert agent.stop() == 1
            untroubled(agent)
            yield all_of_them, ledger, agent.stderr


NAMES = ("unknown-ca", "no-ca", "another-host", "no-client", "foreign-client", "plain-to-tls", "tls-to-plain",
         "plain-to-sasl", "sasl-to-plain", *(f"{how}-{one}" for how in ("wrong", "nobody") for one in PROVED))  # fmt: skip


@pytest.mark.parametrize("id", NAMES)
def test_who_is_turned_away_is_told_why_and_loses_nothing(
    kafka: Kafka, turned_away: tuple[dict[str, Stranger], dict[str, dict[str, Any]], str], id: str
) -> None:
    all_of_them, ledger, log = turned_away
    assert all_of_them.keys() == set(NAMES)
    lines = [line for line in log.splitlines() if f"exporter {id}: " in line]
    assert [line for line in lines if re.search(rf"exporter {id}: {all_of_them[id].says}", line)], lines
    assert len(lines) < 12, "what is the same again and again is folded"
    assert ledger[id]["held"] == ledger[id]["in"] > 0
    assert read_topic(kafka.address(), f"not-{id}") == []


def test_no_secret_is_shown(turned_away: tuple[dict[str, Stranger], dict[str, dict[str, Any]], str]) -> None:
    assert WRONG not in turned_away[2]
    assert ADMIN[1] not in turned_away[2]


def test_who_is_let_in_later_delivers_what_was_held(kafka: Kafka, pods: Pods, tmp_path: Path) -> None:
    """A password is set right at the broker, another one in its file, a certificate is renewed: nobody tells the agent."""
    secret, cert, key = (tmp_path / name for name in ("secret", "client.pem", "client.key"))
    secret.write_text(WRONG)
    stranger, papers = Papers(tmp_path / "others").client, kafka.papers
    shutil.copy(stranger.cert, cert)
    shutil.copy(stranger.key, key)
    late = "late", "pa55-of-late"
    topics = {id: kafka.create_topic(f"later-{id}") for id in ("broker", "file", "certificate")}
    kafka.grant(late[0], topics["broker"], AclOperation.WRITE)
    by_file = f'sasl = {{ mechanism = "PLAIN", username = "{ADMIN[0]}", password_file = "{secret}" }}\n'
    by_cert = f'tls = {{ ca_file = "{papers.ca}", cert_file = "{cert}", key_file = "{key}" }}\n'
    exporters = {
        "broker": to(kafka.address("SASL_PLAINTEXT"), topics["broker"], sasl("SCRAM-SHA-512", late)),
        "file": to(kafka.address("SASL_PLAINTEXT"), topics["file"], by_file),
        "certificate": to(kafka.address("MTLS"), topics["certificate"], by_cert),
    }
    with Agent(tmp_path, pipeline(pods.url, exporters)) as agent:
        for id in exporters:
            agent.says(rf"exporter {id}: .*check `(sasl|tls)`")
        pods.more(3)
        assert [books(agent, id)["sent"] for id in exporters] == [0, 0, 0]
        kafka.set_password(*late)
        secret.write_text(ADMIN[1])
        shutil.copy(papers.client.key, key)
        shutil.copy(papers.client.cert, cert)
        for id in exporters:
            caught_up(agent, id)
        stopped_well(agent)
        assert not [one for one in (WRONG, ADMIN[1], late[1]) if one in agent.stderr]
    for topic in topics.values():
        assert_complete(read_topic(kafka.address(), topic), pods)


def test_a_token_lets_in_and_a_wrong_secret_gets_none(kafka: Kafka, tmp_path: Path) -> None:
    for topic in ("token", "no-token"):
        kafka.grant(ALICE[0], kafka.create_topic(topic), AclOperation.WRITE)
    address = kafka.address("SASL_PLAINTEXT")
    with Tokens() as tokens, Pods(pods=4, series=5) as pods:
        more = {"token_url": tokens.url + "/token", "scope": "metrics"}
        exporters = {
            "token": to(address, "token", sasl("OAUTHBEARER", ALICE, **more)),
            "none": to(address, "no-token", sasl("OAUTHBEARER", (ALICE[0], WRONG), **more)),
        }
        with Agent(tmp_path, pipeline(pods.url, exporters, agent='shutdown_timeout = "500ms"')) as agent:
            until(lambda: books(agent, "token")["sent"], "records by token")
            agent.says(r"exporter none: .*check `sasl`.*who is that")
            pods.more(3)
            caught_up(agent, "token")
            assert books(agent, "none")["held"] == books(agent, "none")["in"]
            assert agent.stop() == 1
            untroubled(agent)
            assert not [one for one in (WRONG, ALICE[1]) if one in agent.stderr]
        assert_complete(read_topic(kafka.address(), "token"), pods)
        assert "scope=metrics" in tokens.asked[0]["form"]


# -- rights --------------------------------------------------------------------------------------------------------------


def test_rights_that_are_granted_later_lose_nothing(kafka: Kafka, pods: Pods, tmp_path: Path) -> None:
    """First alice may write nowhere (no id for an idempotent producer, either), then to another topic, then to this one."""
    user, address = ALICE[0], kafka.address("SASL_PLAINTEXT")
    topics = {acks: kafka.create_topic(f"rights-{acks}") for acks in ("all", "1")}
    for topic in (*topics.values(), "elsewhere", "token", "no-token"):
        kafka.revoke(user, topic)
    more = {acks: sasl("SCRAM-SHA-256", ALICE) + f'acks = "{acks}"' for acks in topics}
    with Agent(tmp_path, pipeline(pods.url, {f"acks-{a}": to(address, topics[a], more[a]) for a in topics})) as agent:
        agent.says(r'exporter acks-1: .*topic "rights-1".*grant it WRITE.*trying again')
        agent.says(r"exporter acks-all: .*grant it .*WRITE.*trying again")
        kafka.grant(user, kafka.create_topic("elsewhere"), AclOperation.WRITE)
        agent.says(r'exporter acks-all: .*topic "rights-all".*grant it WRITE.*trying again')
        pods.more(3)
        assert [books(agent, f"acks-{acks}")["sent"] for acks in topics] == [0, 0]
        for topic in topics.values():
            kafka.grant(user, topic, AclOperation.WRITE)
        for acks in topics:
            caught_up(agent, f"acks-{acks}")
            assert books(agent, f"acks-{acks}")["dropped"] == {}
        stopped_well(agent)
        assert ALICE[1] not in agent.stderr
    for topic in topics.values():
        assert_complete(read_topic(kafka.address(), topic), pods)


def test_rights_that_are_taken_away_for_a_while_lose_nothing(kafka: Kafka, pods: Pods, tmp_path: Path) -> None:
    user, topic = ALICE[0], kafka.create_topic("taken", 4)
    kafka.grant(user, topic, AclOperation.WRITE)
    options = to(kafka.address("SASL_PLAINTEXT"), topic, sasl("PLAIN", ALICE))
    with Agent(tmp_path, pipeline(pods.url, {"kafka": options})) as agent:
        until(lambda: books(agent)["sent"], "first records")
        kafka.revoke(user, topic)
        agent.says(r'exporter kafka: .*topic "taken".*grant it WRITE.*trying again')
        pods.more(4)
        assert books(agent)["held"] > 2 * pods.pods * pods.series
        kafka.grant(user, topic, AclOperation.WRITE)
        caught_up(agent)
        stopped_well(agent)
    assert_complete(read_topic(kafka.address(), topic), pods, 4)
