"""After a form has changed."""

import gc
from collections.abc import Iterator

import pytest

from agent.heap import prepare, settle


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_the_collector_is_asked_less_often() -> None:
    prepare()
    assert gc.get_threshold()[0] > 10_000


def test_what_exists_is_out_of_the_collectors_sight() -> None:
    kept = [[n] for n in range(1000)]
    before = gc.get_freeze_count()
    settle()
    assert gc.get_freeze_count() > before + 1000
    assert len(kept) == 1000


def test_a_c_library_of_another_kind_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.heap.ctypes.CDLL", lambda _: object())
    prepare()
    settle()
    assert gc.get_freeze_count()
