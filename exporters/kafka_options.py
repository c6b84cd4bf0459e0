"""Options of the exporter "kafka", and what they are in librdkafka's words.

Strategy. Whatever keeps records whole, once and in order is the exporter's to set; all else of librdkafka's own can be set
by `properties`. Values of `properties` are taken for secrets, as some are.

Source: librdkafka's CONFIGURATION.md.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from ebbtide import Fault, OptionError, PositiveSize, Secret, Settings, Tls, option, read_secret

DEFAULT_PORT = 9092
LARGEST_MESSAGE = 1_000_000_000
"""Bytes: the largest ``message.max.bytes`` of librdkafka."""
SMALLEST_MESSAGE = 1_000
PROPAGATION_MS = 10_000
"""How long an unknown topic may still be one that was just made, before it is said to be missing."""

_TOPIC = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")  # as org.apache.kafka.common.internals.Topic has it
_BROKER = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:,/\[\]]+)(?::([0-9]{1,5}))?")

_ONCE_AND_IN_ORDER = "the exporter itself, so that records arrive once and in order"
_CALLED_BACK = "the exporter itself, which is called back"
CONTROLLED = {
    "bootstrap.servers": "`brokers`",
    "metadata.broker.list": "`brokers`",
    "request.required.acks": "`acks`",
    "acks": "`acks`",
    "compression.codec": "`compression`",
    "compression.type": "`compression`",
    "message.max.bytes": "`max_message`",
    "batch.size": "`max_message`",
    "security.protocol": "`tls` and `sasl`",
    "ssl.ca.location": "`tls`",
    "ssl.certificate.location": "`tls`",
    "ssl.key.location": "`tls`",
    "enable.ssl.certificate.verification": "`tls`",
    "ssl.endpoint.identification.algorithm": "`tls`",
    "sasl.mechanism": "`sasl`",
    "sasl.mechanisms": "`sasl`",
    "sasl.username": "`sasl`",
    "sasl.password": "`sasl`",
    "sasl.oauthbearer.method": "`sasl`",
    "sasl.oauthbearer.client.id": "`sasl`",
    "sasl.oauthbearer.client.secret": "`sasl`",
    "sasl.oauthbearer.token.endpoint.url": "`sasl`",
    "sasl.oauthbearer.scope": "`sasl`",
    "partitioner": _ONCE_AND_IN_ORDER,
    "enable.idempotence": _ONCE_AND_IN_ORDER,
    "enable.gapless.guarantee": _ONCE_AND_IN_ORDER,
    "max.in.flight": _ONCE_AND_IN_ORDER,
    "max.in.flight.requests.per.connection": _ONCE_AND_IN_ORDER,
    "message.send.max.retries": _ONCE_AND_IN_ORDER,
    "retries": _ONCE_AND_IN_ORDER,
    "message.timeout.ms": _ONCE_AND_IN_ORDER,
    "delivery.timeout.ms": _ONCE_AND_IN_ORDER,
    "transactional.id": _ONCE_AND_IN_ORDER,
    "queuing.strategy": _ONCE_AND_IN_ORDER,
    "partitioner_cb": _ONCE_AND_IN_ORDER,
    "msg_order_cmp": _ONCE_AND_IN_ORDER,
    "delivery.report.only.error": _CALLED_BACK,
    "log.queue": _CALLED_BACK,
    "logger": _CALLED_BACK,
    "opaque": _CALLED_BACK,
    "queue.buffering.max.kbytes": "nobody, since a bundle must have room",
    "plugin.library.paths": "nobody, since it loads code",
    "test.mock.num.brokers": "nobody, since what is sent there is lost",
    "default_topic_conf": _CALLED_BACK,
    "default.topic.config": _CALLED_BACK,
}
"""Properties of librdkafka that cannot be set by `properties`, and who sets them; so are all that end in ``_cb``."""


def _as_property(value: Any) -> Any:
    """Numbers and truth values of the file, as librdkafka reads them."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Property = Annotated[
    Secret,
    BeforeValidator(_as_property),
    WithJsonSchema({"type": ["string", "number", "boolean"], "writeOnly": True}),
]


def _at_least_smallest(size: int) -> int:
    if SMALLEST_MESSAGE <= size <= LARGEST_MESSAGE:
        return size
    raise ValueError(f"must be from {SMALLEST_MESSAGE}B to {LARGEST_MESSAGE}B; change the size")


MessageSize = Annotated[PositiveSize, AfterValidator(_at_least_smallest)]


class Sasl(Settings):
    """Who the agent is, by SASL."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = option(..., "How it is proved.")
    username: str = option(..., "User name; with OAUTHBEARER the client's id.")
    password: Secret | None = option(None, "Password; with OAUTHBEARER the client's secret.")
    password_file: str | None = option(None, "File that holds the password; read again when it changes.")
    token_url: str | None = option(None, "With OAUTHBEARER: the URL of the token endpoint (OpenID Connect).")
    scope: str | None = option(None, "With OAUTHBEARER: the scope to ask for.")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.password is None and self.password_file is None:
            raise OptionError("needs a password or a password_file; add one of them")
        by_token = self.mechanism == "OAUTHBEARER"
        if by_token and not (self.token_url or "").startswith(("http://", "https://")):
            raise OptionError("needs a token_url with OAUTHBEARER, as https://host/path; add it")
        for name in ("token_url", "scope"):
            if getattr(self, name) is not None and not by_token:
                raise OptionError(f"{name} is for OAUTHBEARER only; remove it", name)
        return self


class KafkaSettings(Settings):
    """Options of the exporter "kafka"."""

    brokers: list[str] = option(
        ["127.0.0.1:9092"],
        "Addresses of brokers to begin with, as host:port; more are learned from them.",
        min_length=1,
    )
    topic: str = option("otlp_metrics", "Topic to write to.")
    encoding: Literal["otlp_proto", "otlp_json"] = option(
        "otlp_proto", "Form of a record's value: one ExportMetricsServiceRequest each."
    )
    key: list[Annotated[str, Field(min_length=1)]] | None = option(
        None,
        "Resource attributes whose values are the key of a record; records of one key stay in one partition, in order. "
        "Default: all attributes of the resource.",
        min_length=1,
        examples=[["k8s.namespace.name"]],
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = option(
        "lz4", "How batches of records are compressed."
    )
    acks: Literal["all", "1"] = option(
        "all", 'Who must have a record before it counts as sent: "all" replicas in sync, and written once; "1": the '
        "leader alone, and twice where an answer was lost.",
    )  # fmt: skip
    max_message: MessageSize = option("1000000B", "Largest record before compression; larger ones are cut.")
    tls: Tls | None = option(None, "TLS to the brokers; {} for the system's authorities.")
    sasl: Sasl | None = option(None, "SASL to the brokers.")
    properties: dict[str, Property] = option(
        {}, "Properties of librdkafka's own, but for those that the exporter sets.", examples=[{"client.id": "ebbtide"}]
    )

    @field_validator("brokers")
    @classmethod
    def _are_addresses(cls, brokers: list[str]) -> list[str]:
        for broker in brokers:
            match = _BROKER.fullmatch(broker)
            if not match or not 0 < int(match[1] or DEFAULT_PORT) < 65536:
                raise ValueError('not an address; write one such as "kafka-0.kafka:9092" or "[::1]:9092"')
        return brokers

    @field_validator("topic")
    @classmethod
    def _a_topic(cls, topic: str) -> str:
        if not _TOPIC.fullmatch(topic):
            raise ValueError("not a topic's name; use up to 249 letters, digits, dots, underscores and hyphens")
        return topic

    @field_validator("properties")
    @classmethod
    def _free(cls, properties: dict[str, Secret]) -> dict[str, Secret]:
        for name in properties:
            by = CONTROLLED.get(name) or (_CALLED_BACK if name.endswith("_cb") else "")
            if by:
                raise ValueError(f"{name} cannot be set here: it is set by {by}; remove it")
        return properties

    @model_validator(mode="after")
    def _has_no_server_name(self) -> Self:
        if self.tls is not None and self.tls.server_name is not None:
            raise OptionError("server_name is not supported by librdkafka; use the name in `brokers`", "tls")
        return self


def properties_of(settings: KafkaSettings, batch_bytes: int) -> dict[str, str]:
    """Return what librdkafka is to be told; batches of records may have so many bytes.

    Raises Fault for a file that cannot be read, and for a NUL, at which librdkafka would cut a value short.
    """
    properties = _properties(settings, batch_bytes)
    for name, value in properties.items():
        if "\0" in value:
            raise Fault("credentials", f"cannot use {name}: it holds a NUL; remove it")
    return properties


def checked_properties(settings: KafkaSettings) -> dict[str, str]:
    """Return what can be shown to librdkafka for its opinion: with these it asks nobody anything."""
    properties = properties_of(settings, settings.max_message)
    for name in ("bootstrap.servers", "sasl.oauthbearer.method"):
        properties.pop(name, None)
    return properties


def _properties(settings: KafkaSettings, batch_bytes: int) -> dict[str, str]:
    once = settings.acks == "all"
    defaults = {
        "client.id": "ebbtide",
        "topic.metadata.propagation.max.ms": str(PROPAGATION_MS),
        "enable.metrics.push": "false",
    }
    return {
        **defaults,
        **{name: value.get_secret_value() for name, value in settings.properties.items()},
        "bootstrap.servers": ",".join(settings.brokers),
        "acks": settings.acks,
        "enable.idempotence": str(once).lower(),
        # Without idempotence a second request in flight could overtake one that is tried again.
        "max.in.flight.requests.per.connection": "5" if once else "1",
        "message.timeout.ms": "0",  # none: who has tried once must not stop, or nobody knows whether it was written
        "message.send.max.retries": str(2**31 - 1),
        "partitioner": "murmur2_random",  # as Java's clients do
        "compression.type": settings.compression,
        "message.max.bytes": str(settings.max_message),
        "batch.size": str(batch_bytes),
        **_security(settings),
    }


def _security(settings: KafkaSettings) -> dict[str, str]:
    tls, sasl = settings.tls, settings.sasl
    protocol = ("sasl_" if sasl else "") + ("ssl" if tls else "plaintext")
    return {"security.protocol": protocol, **(_tls(tls) if tls else {}), **(_sasl(sasl) if sasl else {})}


def _tls(tls: Tls) -> dict[str, str]:
    files = {
        "ssl.ca.location": tls.ca_file,
        "ssl.certificate.location": tls.cert_file,
        "ssl.key.location": tls.key_file or tls.cert_file,
    }
    verified = not tls.insecure_skip_verify
    return {
        **{name: path for name, path in files.items() if path},
        "enable.ssl.certificate.verification": str(verified).lower(),
        "ssl.endpoint.identification.algorithm": "https" if verified else "none",
    }


def _sasl(sasl: Sasl) -> dict[str, str]:
    password = read_secret(sasl.password, sasl.password_file, "password_file")()
    if sasl.mechanism != "OAUTHBEARER":
        return {"sasl.mechanism": sasl.mechanism, "sasl.username": sasl.username, "sasl.password": password}
    given = {
        "sasl.oauthbearer.client.id": sasl.username,
        "sasl.oauthbearer.client.secret": password,
        "sasl.oauthbearer.token.endpoint.url": sasl.token_url,
        "sasl.oauthbearer.scope": sasl.scope,
    }
    return {
        "sasl.mechanism": sasl.mechanism,
        "sasl.oauthbearer.method": "oidc",
        **{name: value for name, value in given.items() if value},
    }
