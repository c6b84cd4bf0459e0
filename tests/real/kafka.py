"""Apache Kafka: found, fetched where that is asked for, started on loopback as one node that is broker and controller.

Strategy. One broker has a listener for each way in, so that one process serves all tests: ``PLAINTEXT`` and ``SSL`` (who
comes there is anonymous, and may do everything), ``MTLS`` (asks for a client's certificate), ``MISNAMED`` (shows a
certificate of another host), ``SASL_PLAINTEXT`` and ``SASL_SSL`` (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER; of the
users there ``ADMIN`` may do everything, ``ALICE`` what is granted). It keeps its ports and its data when it is started
anew. The first start takes four seconds; its classes, loaded and checked, are archived when it stops (three seconds more),
so that later starts take two.
"""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.real.papers import Papers
from tests.real.processes import Process
from tests.real.prometheus import REQUIRED
from tests.real.waiting import free_port, until

_ROOT = Path(__file__).resolve().parents[2]
_JARS = _ROOT / ".cache" / "kafka" / "lib"
_FETCH = Path(__file__).with_name("kafka_jars") / "fetch.sh"

ADMIN, ALICE = ("admin", "pa55-of-admin"), ("alice", "pa55-of-alice")
"""Name and password of the users that every mechanism knows."""

LISTENERS = {"PLAINTEXT": "PLAINTEXT", "SSL": "SSL", "MTLS": "SSL", "MISNAMED": "SSL",
             "SASL_PLAINTEXT": "SASL_PLAINTEXT", "SASL_SSL": "SASL_SSL", "CONTROLLER": "PLAINTEXT"}  # fmt: skip
"""Security protocol by listener."""

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_SECURITY = "org.apache.kafka.common.security"
_JVM = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info")  # fmt: skip
_STARTED = "Kafka Server started"


def find_kafka() -> Path | str:
    """The folder of the broker's jars, or why it cannot be had. Nothing is downloaded unless EBBTIDE_REAL=1 asks for it."""
    if shutil.which("java") is None:
        return "no `java` on PATH, which Kafka runs on: install Debian's openjdk-17-jre-headless"
    if _JARS.is_dir():
        return _JARS
    if not REQUIRED:
        return f"no Kafka in .cache/kafka: run {_FETCH.relative_to(_ROOT)} (it needs Maven), or set EBBTIDE_REAL=1"
    if shutil.which("mvn") is None:
        return "no `mvn` on PATH, which fetches Kafka: install Debian's maven"
    try:
        done = subprocess.run([_FETCH], capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return f"cannot fetch Kafka: {_FETCH} was not done within 300 s"
    return _JARS if done.returncode == 0 else f"cannot fetch Kafka: {(done.stdout + done.stderr).strip()[-500:]}"


class Kafka:
    """One broker with data of its own, which outlive a restart."""

    def __init__(self, jars: Path, folder: Path):
        self._folder = folder
        self._java = ["java", *_JVM, "-cp", f"{jars}/*"]
        self._ports = {listener: free_port() for listener in LISTENERS}
        self.papers = Papers(folder / "papers")
        self._starts = 0
        self._settings: dict[str, str] = {}
        self._process: Process | None = None
        self._format()

    # -- being there ---------------------------------------------------------------------------------------------

    def address(self, listener: str = "PLAINTEXT") -> str:
        """host:port of a listener."""
        return f"127.0.0.1:{self._ports[listener]}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.process.poll() is None

    def start(self, **settings: str) -> Kafka:
        """Start it, unless it runs so already. ``settings`` are for this run alone, dots written as underscores."""
        if self.running and settings == self._settings:
            return self
        self.stop()
        self._starts += 1
        self._settings = settings
        file = self._write(f"server-{self._starts}.properties", {**self._properties(), **_dotted(settings)})
        known = self._folder / "classes.jsa"
        share = f"-XX:SharedArchiveFile={known}" if known.exists() else f"-XX:ArchiveClassesAtExit={known}"
        self._process = Process([*self._java, share, "kafka.Kafka", file], self._folder, f"kafka-{self._starts}")
        self._process.says(_STARTED)
        return self

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; ``signal.SIGKILL`` leaves it no time for anything."""
        if self._process is not None:
            with self._process as process:
                process.stop(number)
            self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Kafka:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()  # nobody needs its data any more

    # -- its settings --------------------------------------------------------------------------------------------

    def _format(self) -> None:
        file = self._write("format.properties", self._properties())
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        scram = [
            part
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for name, password in (ADMIN, ALICE)
            for part in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={file}"]
        done = subprocess.run([*self._java, *tool, *scram], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr

    def _write(self, name: str, properties: Mapping[str, str]) -> Path:
        file = self._folder / name
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()), encoding="utf-8")
        return file

    def _properties(self) -> dict[str, str]:
        outside = {name: self.address(name) for name in LISTENERS}
        inside = {name: address for name, address in outside.items() if name != "CONTROLLER"}
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{outside['CONTROLLER']}",
            "controller.listener.names": "CONTROLLER",
            "listeners": _addresses(outside),
            "advertised.listeners": _addresses(inside),
            "listener.security.protocol.map": ",".join(f"{name}:{what}" for name, what in LISTENERS.items()),
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._folder / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "num.network.threads": "1",  # for each listener; each costs a start some time
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "400",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:certified;User:{ADMIN[0]}",
            **self._of_tls(),
            **_of_sasl("sasl_plaintext"),
            **_of_sasl("sasl_ssl"),
        }

    def _of_tls(self) -> dict[str, str]:
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.papers.server.both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.papers.ca),
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.misnamed.ssl.keystore.type": "PEM",
            "listener.name.misnamed.ssl.keystore.location": str(self.papers.elsewhere.both),
            "ssl.principal.mapping.rules": "RULE:^.*$/certified/",
        }

    # -- its topics and rights -----------------------------------------------------------------------------------

    def create_topic(self, name: str, partitions: int = 1, **config: str) -> str:
        """Create a topic; ``config``: its own settings, their dots written as underscores. Returns the name."""
        self._ask(lambda admin: admin.create_topics([NewTopic(name, partitions, 1, config=_dotted(config))]))
        until(lambda: name in self.topics(), f"topic {name} is there")
        return name

    def alter_topic(self, name: str, **config: str) -> None:
        """Change settings of a topic, while it is used."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in _dotted(config).items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        self._ask(lambda admin: admin.incremental_alter_configs([resource]))

    def delete_topic(self, name: str) -> None:
        self._ask(lambda admin: admin.delete_topics([name]))
        until(lambda: name not in self.topics(), f"topic {name} is gone")

    def set_password(self, name: str, password: str) -> None:
        """Give a user of SCRAM another password."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, info, password.encode())
        self._ask(lambda admin: admin.alter_user_scram_credentials([change]))

    def grant(self, user: str, topic: str, *operations: AclOperation) -> None:
        """Let a user do these things with a topic."""
        bindings = [AclBinding(*_acl(user, topic, operation)) for operation in operations]
        self._ask(lambda admin: admin.create_acls(bindings))

    def revoke(self, user: str, topic: str) -> None:
        """Take all rights to a topic from a user."""
        bindings = [AclBindingFilter(*_acl(user, topic, AclOperation.ANY))]
        self._ask(lambda admin: admin.delete_acls(bindings))

    def topics(self) -> set[str]:
        return set(self._admin().list_topics(timeout=10).topics)

    def _ask(self, question: Callable[[AdminClient], Mapping[Any, Future[Any]]]) -> None:
        admin = self._admin()
        for answer in question(admin).values():
            answer.result(timeout=20)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.address(), "log_level": 0})


def _dotted(settings: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): value for name, value in settings.items()}


def _addresses(listeners: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in listeners.items())


def _of_sasl(listener: str) -> dict[str, str]:
    """What a listener asks of its clients, by mechanism. Tokens need no signature: who may have one is not tested here."""
    users = " ".join(f'user_{name}="{password}"' for name, password in (ADMIN, ALICE))
    modules = {
        "plain": f"{_SECURITY}.plain.PlainLoginModule required {users};",
        "scram-sha-256": f"{_SECURITY}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{_SECURITY}.scram.ScramLoginModule required;",
        "oauthbearer": f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule required;",
    }
    start = f"listener.name.{listener}"
    jaas = {f"{start}.{mechanism}.sasl.jaas.config": module for mechanism, module in modules.items()}
    return {f"{start}.sasl.enabled.mechanisms": ",".join(_MECHANISMS), **jaas}


def _acl(user: str, topic: str, operation: AclOperation) -> tuple[Any, ...]:
    allow = AclPermissionType.ANY if operation == AclOperation.ANY else AclPermissionType.ALLOW
    return ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, allow
