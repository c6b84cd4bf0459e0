from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config import Config, ConfigErrors, load
from agent.plugin import ConfigError, Context

GOOD = """\
[receivers.a]
type = "poll"
url = "${URL:-http://default:1}"
interval = "1m30s"
[processors.p]
type = "pass"
[exporters.e]
type = "print"
queue = { max_bytes = "1MiB", on_full = "block" }
batch.linger = "1s"
[pipelines.m]
receivers = ["a"]
processors = ["p"]
exporters = ["e"]
"""

pytestmark = pytest.mark.usefixtures("plugins")


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "agent.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def problems(folder: Path, text: str | bytes, env: dict[str, str] | None = None) -> list[str]:
    """The problems of a file, without its folder."""
    with pytest.raises(ConfigErrors) as caught:
        load(write(folder, text), env or {})
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def loaded(folder: Path, text: str, env: dict[str, str] | None = None) -> Config:
    return load(write(folder, text), env or {})


def test_a_good_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    receiver, exporter = config.receivers["a"], config.exporters["e"]
    assert (receiver.id, receiver.kind, receiver.type, receiver.line) == ("a", "receivers", "poll", 1)
    assert receiver.cls.__name__ == "Poll"
    assert receiver.settings.model_dump(include={"url", "interval"}) == {"url": "http://default:1", "interval": "1m30s"}
    assert receiver.outbox is None
    assert exporter.outbox is not None
    assert (exporter.outbox.queue.max_bytes, exporter.outbox.queue.on_full) == (2**20, "block")
    assert (exporter.outbox.batch.linger, exporter.outbox.retry.initial) == (1.0, 1.0)
    assert config.pipelines["m"].processors == ["p"]
    assert config.agent.admin == "127.0.0.1:9464"
    assert config.warnings == []


def test_variables_come_from_the_environment(tmp_path: Path) -> None:
    settings_ = loaded(tmp_path, GOOD, {"URL": "http://given:2"}).receivers["a"].settings
    assert settings_.model_dump()["url"] == "http://given:2"


EVERYTHING_WRONG = """\
surprise = 1
[agent]
log_leval = "info"
shutdown_timeout = 3
admin = ["x"]
[receivers.a]
type = "poll"
url = "${NOPE}"
intervall = "1s"
interval = "10 parsecs"
headers = { Authorization = "x", b = 3 }
basic_auth = { username = "a", passwort = "s" }
tries = -1
ratio = 0
mode = "soft"
bearer_token = "a"
bearer_token_file = "b"
match = []
enabled = "yes"
queries = [
  { name = "q" },
  { depth = 0.5 },
]
[receivers.b]
type = "pol"
[receivers.c]
[receivers."a/b"]
type = "print"
[receivers.d]
type = "print"
[receivers.f]
type = 3
[exporters.e]
type = "print"
queue.kind = "disk"
queue.max_bytes = "0B"
retry = { initial = "1m" }
format = 1979-05-27
[processors]
x = 1
[pipelines.m]
receivers = ["aa", "e"]
exporters = []
[pipelines.n]
receivers = ["a", "a", 3]
exporters = "e"
[pipelines.o]
[pipeline.p]
"""

EVERYTHING_SAID = """\
agent.toml:1: surprise: unknown table; did you mean "pipelines"?
agent.toml:3: agent.log_leval: unknown option; did you mean "log_level"?
agent.toml:4: agent.shutdown_timeout: not a duration; write one such as "250ms", "30s", "5m" or "6h"
agent.toml:5: agent.admin: expected a string in quotes, not a list; write for instance admin = "127.0.0.1:9464"
agent.toml:8: receivers.a.url: the environment variable NOPE is not set; set it, or write ${NOPE:-default}
agent.toml:9: receivers.a.intervall: unknown option; did you mean "interval"?
agent.toml:10: receivers.a.interval: not a duration; write one such as "250ms", "30s", "5m" or "6h"
agent.toml:11: receivers.a.headers.b: expected a string in quotes, not a whole number; put it in quotes
agent.toml:12: receivers.a.basic_auth.passwort: unknown option; did you mean "password"?
agent.toml:12: receivers.a.basic_auth: bearer_token and basic_auth are both set; keep one of them
agent.toml:13: receivers.a.tries: expected at least 0; change the number
agent.toml:14: receivers.a.ratio: expected more than 0.0; change the number
agent.toml:15: receivers.a.mode: does not have the right form; it must match ^(track|none)$
agent.toml:17: receivers.a.bearer_token_file: bearer_token and bearer_token_file are both set; keep one of them
agent.toml:18: receivers.a.match: must not be empty; name at least one
agent.toml:19: receivers.a.enabled: expected true or false, not a string; write for instance enabled = true
agent.toml:22: receivers.a.queries[1].name: required, and missing; add name = "..."
agent.toml:22: receivers.a.queries[1].depth: expected a whole number, not a number; write for instance depth = 1
agent.toml:25: receivers.b.type: unknown type of receiver; did you mean "poll"? All of them: ebbtide components
agent.toml:26: receivers.c.type: required, and missing; add type = "NAME": poll
agent.toml:27: receivers."a/b": not an id; use letters, digits, _ and -, at most 63 of them
agent.toml:30: receivers.d.type: unknown type of receiver; it is one of the exporters, so declare it there; else did you mean "poll"? All of them: ebbtide components
agent.toml:32: receivers.f.type: expected a string in quotes, not a whole number; write one of: poll
agent.toml:35: exporters.e.queue.kind: disk queues are not built yet in this version; use "memory"
agent.toml:36: exporters.e.queue.max_bytes: must be more than zero; write one such as "4MiB"
agent.toml:37: exporters.e.retry.max: max is shorter than initial; make it at least as long
agent.toml:38: exporters.e.format: expected a string in quotes, not a date or time; write for instance format = "text"
agent.toml:40: processors.x: expected the table of one component; write [processors.ID] with an id of your choice above it
agent.toml:42: pipelines.m.receivers[0]: unknown receiver; did you mean "a"?
agent.toml:42: pipelines.m.receivers[1]: unknown receiver; it is one of the exporters, so name it there
agent.toml:43: pipelines.m.exporters: must not be empty; name at least one
agent.toml:45: pipelines.n.receivers[2]: expected a string in quotes, not a whole number; put it in quotes
agent.toml:45: pipelines.n.receivers[1]: named twice in this list; remove one of them
agent.toml:46: pipelines.n.exporters: expected a list, not a string; write for instance exporters = ["..."]
agent.toml:47: pipelines.o.receivers: required, and missing; add receivers = ["..."]
agent.toml:47: pipelines.o.exporters: required, and missing; add exporters = ["..."]
agent.toml:48: pipeline: unknown table; did you mean "pipelines"?
"""


def test_everything_wrong_is_said_at_once_and_in_order(tmp_path: Path) -> None:
    assert "\n".join(problems(tmp_path, EVERYTHING_WRONG)) + "\n" == EVERYTHING_SAID


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["agent.toml:1: the file is empty; declare receivers, exporters and a pipeline: see ebbtide docs"]),
        ("# nothing\n", ["agent.toml:1: the file is empty; declare receivers, exporters and a pipeline: see ebbtide docs"]),
        ("[agent]", ["agent.toml:1: pipelines: no pipeline is declared; add [pipelines.ID] with its receivers and exporters"]),
        ("a = 1\nb = = 2", ["agent.toml:2: not valid TOML: Invalid value (column 5); correct the syntax here"]),
        ("a = 1\na = 2", ["agent.toml:2: not valid TOML: Cannot overwrite a value (column 6); correct the syntax here"]),
        (b"a = 1\nb = '\xff'", ["agent.toml:2: cannot read the file: it is not UTF-8 text; save it as UTF-8"]),
        ("a = " + "[" * 5000 + "]" * 5000, ["agent.toml:1: cannot read the file: its arrays or tables are nested too deeply; flatten them"]),
        ("a = " + "9" * 5000, ["agent.toml:1: not valid TOML: a number has too many digits; shorten it"]),
        (
            "receivers = 3\n[pipelines.m]\nreceivers = ['a']\nexporters = ['b']",
            [
                "agent.toml:1: receivers: expected a table, not a whole number; write [receivers]",
                "agent.toml:3: pipelines.m.receivers[0]: unknown receiver; none is declared, so add [receivers.ID]",
                "agent.toml:4: pipelines.m.exporters[0]: unknown exporter; none is declared, so add [exporters.ID]",
            ],
        ),
    ],
)  # fmt: skip
def test_files_that_are_none(text: str | bytes, said: list[str], tmp_path: Path) -> None:
    assert problems(tmp_path, text) == said


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path("a\0"), "its name is not a path"),
    ):
        with pytest.raises(ConfigErrors, match=f"cannot read the file: {why}; check the path and who may read it"):
            load(path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeff" + GOOD).pipelines


def test_credentials_exclude_each_other(tmp_path: Path) -> None:
    text = GOOD.replace('interval = "1m30s"', "basic_auth = {}\nbearer_token_file = 'f'\ntls = { key_file = 'k' }")
    assert problems(tmp_path, text.replace("{}", '{ username = "u" }')) == [
        "agent.toml:4: receivers.a.basic_auth: needs a password or a password_file; add one of them",
        "agent.toml:4: receivers.a.basic_auth: bearer_token_file and basic_auth are both set; keep one of them",
        "agent.toml:6: receivers.a.tls.key_file: key_file is set without cert_file; set both",
    ]
    both = 'basic_auth = { username = "u", password = "p", password_file = "f" }'
    assert problems(tmp_path, GOOD.replace('interval = "1m30s"', both)) == [
        "agent.toml:4: receivers.a.basic_auth.password_file: password and password_file are both set; keep one of them"
    ]


def test_a_plugin_that_cannot_be_loaded_is_a_mistake_of_the_file(tmp_path: Path, plugins: Callable[..., None]) -> None:
    plugins("exporters", "kafka", "no_such_module_anywhere:Kafka")
    assert problems(tmp_path, GOOD.replace('"print"', '"kafka"')) == [
        "agent.toml:8: exporters.e.type: cannot find no_such_module_anywhere of ebbtide 1.0; reinstall it"
    ]


def test_warnings(tmp_path: Path) -> None:
    text = '[agent]\nstate_dir = "/var/lib/x"\n' + GOOD + '[processors.idle]\ntype = "pass"\n'
    warnings = [warning.replace(f"{tmp_path}/", "") for warning in loaded(tmp_path, text).warnings]
    assert warnings == [
        "agent.toml:2: agent.state_dir: this version keeps queues in memory only: what is held when the process ends is "
        "lost; only the checkpoints of receivers are kept on disk",
        "agent.toml:17: processors.idle: no pipeline uses this processor, so it will not run; name it in one, or remove it",
    ]


def test_what_a_constructor_refuses_has_its_place(tmp_path: Path) -> None:
    config = loaded(tmp_path, GOOD)
    refused = config.refused(config.receivers["a"], ConfigError("cannot do both; drop one", option="interval"))
    assert str(refused) == f"{tmp_path}/agent.toml:4: receivers.a.interval: cannot do both; drop one"
    config = loaded(
        tmp_path, GOOD.replace("[processors.p]", "bearer_token = 'hunter2'\n[processors.p]"), {"URL": "hunter3"}
    )
    refused = config.refused(config.receivers["a"], ConfigError("cannot do hunter2 and hunter3"))
    assert str(refused).endswith(": receivers.a: cannot do *** and ***")
    config = loaded(tmp_path, GOOD)
    refused = config.refused(config.exporters["e"], ConfigError("cannot do that"))
    assert str(refused) == f"{tmp_path}/agent.toml:7: exporters.e: cannot do that"


SECRET_PLACES = [
    "admin = SECRET\n",
    "[agent]\nlog_level = SECRET\n",
    "[agent]\nshutdown_timeout = SECRET\n",
    "[agent]\nunknown = SECRET\n",
    "[receivers]\nx = SECRET\n",
    "[receivers.x]\ntype = SECRET\n",
    *(
        f"[receivers.x]\ntype = 'poll'\n{line}\n"
        for line in (
            "url = [SECRET]",
            "interval = SECRET",
            "max_body = SECRET",
            "mode = SECRET",
            "ratio = SECRET",
            "tries = SECRET",
            "enabled = SECRET",
            "match = SECRET",
            "match = [[SECRET]]",
            "tls = SECRET",
            "tls.ca_file = [SECRET]",
            "headers = SECRET",
            "headers = [SECRET]",
            "headers = { A = [SECRET] }",
            "headers = { A = { B = SECRET } }",
            "bearer_token = [SECRET]",
            "bearer_token = { x = SECRET }",
            "bearer_token = SECRET\nbearer_token_file = SECRET",
            "url = 'u'\nbearer_token = SECRET\nmode = 'none'",
            "basic_auth = SECRET",
            "basic_auth = { username = SECRET }",
            "basic_auth = { password = SECRET }",
            "basic_auth = { username = 1, password = SECRET, password_file = SECRET }",
            "basic_auth = { password = SECRET, surprise = SECRET }",
            "queries = SECRET",
            "queries = [SECRET]",
            "queries = [{ name = SECRET, depth = SECRET }]",
            "queries = [{ naem = SECRET }]",
            "surprise = SECRET",
        )
    ),
    "[exporters.x]\ntype = 'print'\nqueue = SECRET\n",
    "[exporters.x]\ntype = 'print'\nqueue.kind = SECRET\n",
    "[exporters.x]\ntype = 'print'\nqueue.max_bytes = SECRET\n",
    "[exporters.x]\ntype = 'print'\nretry.initial = SECRET\n",
    "[exporters.x]\ntype = 'print'\nformat = SECRET\nsurprise = 1\n",
    "[pipelines]\nx = SECRET\n",
    "[pipelines.x]\nreceivers = SECRET\nexporters = [SECRET]\n",
    "[pipelines.x]\nreceivers = [SECRET, SECRET]\nprocessors = [[SECRET]]\n",
    "[pipelines.x]\nprocessors = [SECRET]\nunknown = SECRET\n",
    "a = SECRET\na = 1\n",
    "a = SECRET oops\n",
    "a = [SECRET\n",
    "a = { b = SECRET, b = 1 }\n",
]


@pytest.mark.parametrize("place", SECRET_PLACES)
@pytest.mark.parametrize(
    "how", ["'hunter2secret'", "'${TOKEN}'", "'x${TOKEN}y'", "'${file:token}'", "'${NO:-hunter2secret}'"]
)
def test_no_mistake_shows_a_secret(place: str, how: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2secret")
    said = "\n".join(problems(tmp_path, place.replace("SECRET", how), {"TOKEN": "hunter2secret"}))
    assert said
    assert "hunter2" not in said


def test_neither_does_the_repr(tmp_path: Path) -> None:
    text = GOOD.replace(
        'interval = "1m30s"', "headers = { A = 'hunter2' }\nbasic_auth = { username='u', password='hunter2' }"
    )
    assert "hunter2" not in repr(loaded(tmp_path, text))


mess = st.recursive(
    st.sampled_from(["poll", "print", "a", "10s", "${UNSET}", "${SET}", ""]) | st.integers() | st.booleans(),
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "url", "tls", "queue", "kind", "headers", "receivers", "a", "x y"]), v, max_size=4
        )
    ),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["agent", "receivers", "processors", "exporters", "pipelines", "z"]), mess))
def test_any_file_is_loaded_or_refused_with_places(tmp_path: Path, document: dict[str, object]) -> None:
    from agent.toml_text import key, written

    text = "".join(f"{key(name)} = {written(value)}\n" for name, value in document.items())
    file = write(tmp_path, text)
    try:
        pipelines = load(file, {"SET": "value"}).pipelines
    except ConfigErrors as errors:
        found = errors.problems
    else:
        assert pipelines
        return
    lines = [int(problem.removeprefix(f"{file}:").partition(":")[0]) for problem in found]
    assert lines
    assert lines == sorted(lines)
    assert len(set(found)) == len(found)


def test_what_constructors_refuse_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(tmp_path, GOOD)
    made, closed = [], []

    def make(self: object, settings_: object, context: Context) -> None:
        made.append(context.id)
        if context.id != "p":
            raise ConfigError(f"cannot be {context.id}; be another", "type" if context.id == "e" else "")

    async def aclose(self: object) -> None:
        closed.append(self)

    for kind in ("receivers", "processors", "exporters"):
        for declared in config.of_kind(kind).values():
            monkeypatch.setattr(declared.cls, "__init__", make)
            monkeypatch.setattr(declared.cls, "aclose", aclose, raising=False)
    with pytest.raises(ConfigErrors) as caught:
        config.try_out()
    assert [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems] == [
        "agent.toml:1: receivers.a: cannot be a; be another",
        "agent.toml:8: exporters.e.type: cannot be e; be another",
    ]
    assert made == ["a", "p", "e"]
    assert len(closed) == 1


def test_what_constructors_refuse_is_said_beside_other_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, *args: object) -> None:
        raise ConfigError("cannot be; be another", "type")

    monkeypatch.setattr(loaded(tmp_path, GOOD).exporters["e"].cls, "__init__", refuse)
    unknown = "agent.toml:16: agent.unknown: unknown option; did you mean "
    assert [line.split('"')[0] for line in problems(tmp_path, GOOD + "[agent]\nunknown = 1\n")] == [
        "agent.toml:8: exporters.e.type: cannot be; be another",
        unknown,
    ]

    async def reload() -> None:  # there is no loop to close things in but the one that runs
        assert [line.split('"')[0] for line in problems(tmp_path, GOOD + "[agent]\nunknown = 1\n")] == [unknown]

    trio.run(reload)


def test_pipelines_of_another_sort(tmp_path: Path) -> None:
    assert problems(tmp_path, "pipelines = []") == [
        "agent.toml:1: pipelines: expected a table, not a list; write [pipelines]"
    ]


def test_an_empty_state_dir_is_not_this_folder(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD + "[agent]\nstate_dir = ''\n") == [
        "agent.toml:16: agent.state_dir: must not be empty; write some text"
    ]


def test_nothing_to_refuse(tmp_path: Path) -> None:
    loaded(tmp_path, GOOD).try_out()
