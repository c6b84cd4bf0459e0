"""What errors mean, over the codes that confluent_kafka knows."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from exporters.kafka_answers import _CURES, judge, sentence


def error(name: str, words: str = "words") -> KafkaError:
    return KafkaError(getattr(KafkaError, name), words)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("MSG_SIZE_TOO_LARGE", "too large"),
        ("INVALID_RECORD", "never"),
        ("INVALID_TIMESTAMP", "never"),
        ("TOPIC_AUTHORIZATION_FAILED", "later"),
        ("CLUSTER_AUTHORIZATION_FAILED", "later"),
        ("_UNKNOWN_TOPIC", "later"),
        ("UNKNOWN_TOPIC_OR_PART", "later"),
        ("_AUTHENTICATION", "later"),
        ("_FATAL", "later"),
        ("_PURGE_QUEUE", "later"),
        ("_MSG_TIMED_OUT", "later"),
        ("NOT_ENOUGH_REPLICAS", "later"),
        ("UNKNOWN", "later"),
    ],
)
def test_what_can_be_cured_is_kept(name: str, verdict: str) -> None:
    assert judge(error(name)) == verdict


def test_no_error_is_an_acknowledgement() -> None:
    assert judge(None) == "taken"


@pytest.mark.parametrize("name", sorted(_CURES))
def test_every_cure_is_for_a_code_and_says_what_to_do(name: str) -> None:
    said = sentence(error(name), "mesh")
    assert said.endswith("(words)")
    assert ";" in said
    assert "{topic}" not in said


def test_a_sentence_does_not_vary_with_the_clock() -> None:
    words = [
        f"localhost:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after {after})"
        for after in ("0ms in state CONNECT", "12ms in state CONNECT, 4 identical error(s) suppressed")
    ]
    said = {sentence(error("_TRANSPORT", one), "mesh") for one in words}
    assert said == {
        "cannot reach a broker; check `brokers`, and that it runs "
        "(localhost:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused)"
    }


def test_what_has_no_cure_is_said_in_its_own_words() -> None:
    assert sentence(error("REQUEST_TIMED_OUT", "Broker: Request timed out"), "mesh") == "Broker: Request timed out"
