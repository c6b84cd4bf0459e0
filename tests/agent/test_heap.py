"""After a form has changed."""

import gc
from collections.abc import Iterator

import pytest

from agent.heap import settle


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_exists_is_out_of_the_collectors_sight() -> None:
    kept = [[n] for n in range(1000)]
    before = gc.get_freeze_count()
    settle()
    assert gc.get_freeze_count() > before + 1000
    assert len(kept) == 1000


def test_a_c_library_without_malloc_trim_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.heap.ctypes.CDLL", lambda _: object())
    settle()
    assert gc.get_freeze_count()
