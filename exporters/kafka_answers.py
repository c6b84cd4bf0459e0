"""What librdkafka's and the brokers' errors mean: for a record, and for the operator. Sans-IO.

Strategy. There is one layer for each cause. What may have been written is retried by librdkafka alone, without end, since
only its sequence numbers keep it from being written twice. What comes back as failed was not written, and is judged here:
most of it can be cured (a grant, a topic), so it is kept and tried again by the outbox; what the brokers will never take is
dropped; what is too large is cut.

Source: librdkafka's ``rdkafka.h`` (codes that begin with an underscore are its own), and the Kafka protocol guide.
"""

from __future__ import annotations

import re
from typing import Literal, Protocol

Verdict = Literal["taken", "too large", "never", "later"]


class Error(Protocol):
    """What a delivery report says: confluent_kafka's ``KafkaError``."""

    def name(self) -> str:
        """The code's name."""

    def str(self) -> str:
        """The words."""

    def fatal(self) -> bool:
        """Whether the producer is of no further use."""


_TOO_LARGE = ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE")
_NEVER = ("INVALID_RECORD", "INVALID_TIMESTAMP", "INVALID_MSG", "INVALID_MSG_SIZE")
BROKEN_OFF = ("_PURGE_QUEUE", "_PURGE_INFLIGHT")

_VARYING = re.compile(r"^\[thrd:[^]]*\]: | \(after \d+ms in state \w+(?:, \d+ identical error\(s\) suppressed)?\)")

_CURES = {
    "_TRANSPORT": "cannot reach a broker; check `brokers`, and that it runs",
    "_ALL_BROKERS_DOWN": "cannot reach any broker; check `brokers`, that they run, and whether they want `tls` or `sasl`",
    "_BAD_MSG": "what answers is no broker, or wants TLS; check `brokers` and `tls`",
    "TOPIC_AUTHORIZATION_FAILED": 'the brokers do not let this user write to topic "{topic}"; grant it WRITE and DESCRIBE there',
    "CLUSTER_AUTHORIZATION_FAILED": 'the brokers do not let this user write with acks = "all"; grant it IDEMPOTENT_WRITE on the '
    'cluster or WRITE on a topic, or set acks = "1"',
    "_UNKNOWN_TOPIC": 'there is no topic "{topic}", and the brokers do not create it; create it, or correct `topic`',
    "TOPIC_EXCEPTION": 'the brokers do not take the name of topic "{topic}"; correct `topic`',
    "INVALID_REQUIRED_ACKS": 'the brokers do not take these acks; set acks = "all"',
    "UNSUPPORTED_FOR_MESSAGE_FORMAT": "the brokers are older than Kafka 0.11; upgrade them",
    "UNSUPPORTED_COMPRESSION_TYPE": "the brokers do not know this `compression`; choose another",
    "POLICY_VIOLATION": "the brokers' policy refuses the records; ask who runs them",
    "_AUTHENTICATION": "the brokers do not accept who the agent says it is; check `sasl`",
    "SASL_AUTHENTICATION_FAILED": "the brokers do not accept who the agent says it is; check `sasl`",
    "_SSL": "TLS with a broker fails; check `tls`, that the port speaks TLS, and that the certificate names the host in `brokers`",
    "_RESOLVE": "the name of a broker is not known; check `brokers`, and the addresses that the brokers advertise",
}
_AGAIN = "the brokers no longer know this producer; going on with a new one"
_OF_NO_USE = (
    "_FATAL",
    "_FENCED",
    "PRODUCER_FENCED",
    "INVALID_PRODUCER_EPOCH",
    "OUT_OF_ORDER_SEQUENCE_NUMBER",
    "UNKNOWN_PRODUCER_ID",
)
_CURES |= dict.fromkeys(_OF_NO_USE, _AGAIN)
_CURES["UNKNOWN_TOPIC_OR_PART"] = _CURES["_UNKNOWN_PARTITION"] = _CURES["_UNKNOWN_TOPIC"]


def judge(error: Error | None) -> Verdict:
    """Tell what becomes of a record of which this was reported."""
    if error is None:
        return "taken"
    if error.name() in _TOO_LARGE:
        return "too large"
    return "never" if error.name() in _NEVER else "later"


def ends_producer(error: Error | None) -> bool:
    """Tell whether the producer that reported this will take nothing any more."""
    return error is not None and (error.fatal() or error.name() in _OF_NO_USE)


def sentence(error: Error, topic: str) -> str:
    """Say what is wrong, why, and what to try."""
    words = steady(error.str()) or error.name()
    cure = _CURES.get("_SSL" if error.name() == "_TRANSPORT" and "SSL" in words else error.name())
    return words if cure is None else f"{cure.format(topic=topic)} ({words})"


def steady(words: str) -> str:
    """Return librdkafka's words without what differs each time."""
    return _VARYING.sub("", words).strip()
