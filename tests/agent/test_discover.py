from collections.abc import Callable
from types import SimpleNamespace

import pytest

import ebbtide
from agent import discover
from agent.discover import KINDS, PluginError, plugins


class Pass(ebbtide.SeriesProcessor[ebbtide.Settings]):
    """Passes."""

    def map_series(self, series: ebbtide.Series) -> ebbtide.Series | None:
        return series


class Strange(Pass):
    """Has settings of another library."""

    Settings = dict  # type: ignore[assignment]


def test_the_built_ins_are_found_and_nothing_is_imported_for_it() -> None:
    found = plugins()
    assert list(found) == list(KINDS)
    assert {"federate"} <= set(found["receivers"])
    assert {"otlp", "stdout"} <= set(found["exporters"])
    assert found["receivers"]["federate"].distribution == "ebbtide"
    assert found["receivers"]["federate"].origin.startswith("ebbtide ")


def test_load(register: Callable[..., None]) -> None:
    register("processors", "pass", Pass, "strange-things")
    plugin = plugins()["processors"]["pass"]
    assert plugin.load() is Pass
    assert (plugin.name, plugin.kind, plugin.origin, plugin.rivals) == ("pass", "processors", "strange-things 1.0", ())


@pytest.mark.parametrize(
    ("kind", "what", "text"),
    [
        ("receivers", Pass, "it is not a subclass of ebbtide.Receiver; register it under the group of its own kind"),
        ("processors", 3, "it is not a subclass of ebbtide.Processor"),
        ("processors", Strange, "its Settings do not extend ebbtide.Settings; derive them from it"),
        ("processors", "no_such_module_x:A", "cannot find no_such_module_x of theirs 1.0; reinstall it"),
        ("processors", "ebbtide:NoSuchName", "cannot find ebbtide:NoSuchName of theirs 1.0; reinstall it"),
    ],
)
def test_what_cannot_be_used(kind: str, what: object, text: str, register: Callable[..., None]) -> None:
    register(kind, "x", what, "theirs")
    with pytest.raises(PluginError) as caught:
        plugins()[kind]["x"].load()
    assert text in str(caught.value)
    assert str(caught.value).startswith("cannot ")


def test_two_claims_to_one_name(register: Callable[..., None]) -> None:
    register("processors", "x", Pass, "theirs")
    register("processors", "x", Pass, "ours")
    with pytest.raises(PluginError, match="cannot tell which x is meant: ours and theirs both provide it"):
        plugins()["processors"]["x"].load()


def test_one_distribution_found_twice_is_no_rival(register: Callable[..., None]) -> None:
    register("processors", "x", Pass)
    register("processors", "x", Pass)
    assert plugins()["processors"]["x"].load() is Pass


class Broken:
    """An entry point whose import fails."""

    value = module = "theirs.plugin"
    extras = ()

    def __init__(self, error: Exception):
        self.error = error
        self.dist = SimpleNamespace(name="theirs", version="1.0")

    def load(self) -> object:
        raise self.error


class Metadata:
    requires = ("trio>=0.31", 'confluent-kafka>=2.11; extra == "kafka"', "pyyaml; extra=='kubeconfig'")

    class metadata:  # noqa: N801
        @staticmethod
        def get_all(name: str) -> list[str]:
            return ["kafka", "kubeconfig", "all", "x"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ImportError("no", name="confluent_kafka.admin"), "it needs the Python module confluent_kafka; run: pip install 'theirs[kafka]'"),
        (ImportError("no", name="yaml"), "it needs the Python module yaml; run: pip install 'theirs[x]'"),
        (ZeroDivisionError("secret"), "importing it raised ZeroDivisionError; ask its author"),
    ],
)  # fmt: skip
def test_an_import_that_fails_says_what_to_install(
    error: Exception, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discover, "distribution", lambda name: Metadata)
    plugin = discover.Plugin("x", "exporters", Broken(error))  # type: ignore[arg-type]
    with pytest.raises(PluginError) as caught:
        plugin.load()
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)
