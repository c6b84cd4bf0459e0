"""Whose series they are, and whether those targets were up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbtide import Target
from receivers.memory import Columns
from receivers.targets import TargetBook, target_key

A, B = ("linkerd-proxy", "10.0.0.1:4191"), ("linkerd-proxy", "10.0.0.2:4191")


def flat(key: tuple[str, str], **more: str) -> tuple[str, ...]:
    labels = {"job": key[0], "instance": key[1], **more}
    return tuple(text for pair in sorted(labels.items()) for text in pair)


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        ((), ("", "")),
        (("a", "b"), ("", "")),
        (("instance", "i", "job", "j"), ("j", "i")),
        (("a", "b", "job", "j", "z", "y"), ("j", "")),
        (("instance", "i"), ("", "i")),
        (("a", "job", "b", "instance"), ("", "")),  # values that read like names
        (("a", "job", "instance", "job", "job", "instance"), ("instance", "job")),
    ],
)
def test_the_key_is_job_and_instance(labels: tuple[str, ...], key: tuple[str, str]) -> None:
    assert target_key(labels) == key


@given(st.dictionaries(st.sampled_from(["a", "instance", "job", "z"]), st.sampled_from(["job", "instance", "x"])))
def test_the_key_is_what_a_dict_says(labels: dict[str, str]) -> None:
    pairs = tuple(text for pair in sorted(labels.items()) for text in pair)
    assert target_key(pairs) == (labels.get("job", ""), labels.get("instance", ""))


def test_a_target_is_what_its_up_carries() -> None:
    book = TargetBook()
    book.learn(flat(A, deployment="web"))
    assert book.target(A) is Target.of({"job": A[0], "instance": A[1], "deployment": "web"})


def test_what_was_decided_stays() -> None:
    book = TargetBook()
    book.learn(flat(A, deployment="web"))
    book.learn(flat(A, deployment="api"))
    assert book.target(B) is None  # decided: it is not known
    book.learn(flat(B))
    assert book.target(A) is Target.of({"job": A[0], "instance": A[1], "deployment": "web"})
    assert book.target(B) is None


def test_undecided_are_those_that_can_be_asked_for() -> None:
    book = TargetBook()
    keys = {A, B, ("job", ""), ("", "instance"), ("", "")}
    assert book.undecided(keys) == {A, B}
    book.learn(flat(A))
    assert book.undecided(keys) == {B}
    book.target(B)
    assert book.undecided(keys) == set()


def test_numbers_are_given_once() -> None:
    book = TargetBook()
    assert [book.number(key) for key in (A, B, A, B)] == [0, 1, 0, 1]


class Polls:
    """Two targets, a series each, and an `up` of the first."""

    def __init__(self) -> None:
        self.columns, self.book = Columns(), TargetBook()
        self.slots = [self.columns.allocate() for _ in range(3)]
        self.up = self.slots[2]
        self.columns.target[self.slots] = [self.book.number(key) for key in (A, B, A)]
        self.book.watch(A, self.up)
        self.poll = 0

    def answer(self, *present: int, up: bool | None = None) -> None:
        """An answer with series 0 (of A), 1 (of B), and `up` of A where it is given."""
        self.poll += 1
        slots = [self.slots[number] for number in present] + ([self.up] if up is not None else [])
        ups = np.zeros(self.columns.size, np.bool_)
        ups[slots] = True
        ups[self.up] = bool(up)
        self.book.note_down(self.columns, np.array(slots, np.int32), ups, self.poll)

    def down_since(self, poll: int) -> list[bool]:
        down = self.book.was_down_since(np.array([0, 1], np.int32), np.array([poll, poll]))
        return [bool(one) for one in down]


@pytest.mark.parametrize(
    ("present", "up", "down"),
    [
        ((0, 1), True, [False, False]),
        ((0, 1), False, [True, False]),  # what its `up` says counts, whatever else is in the answer
        ((0, 1), None, [True, False]),
        ((1,), True, [False, False]),
        ((0,), True, [False, True]),  # without an `up`, it is down when nothing of it is there
        ((), None, [True, True]),
    ],
)
def test_who_is_down(present: tuple[int, ...], up: bool | None, down: list[bool]) -> None:
    polls = Polls()
    polls.answer(*present, up=up)
    assert polls.down_since(0) == down


def test_down_since_when() -> None:
    polls = Polls()
    polls.answer(0, 1, up=True)
    polls.answer(0, 1, up=False)
    polls.answer(0, 1, up=True)
    assert [polls.down_since(poll)[0] for poll in range(4)] == [True, True, False, False]


def test_an_up_that_is_forgotten_is_watched_no_more() -> None:
    polls = Polls()
    polls.book.forget(polls.up)
    polls.answer(0, 1)
    assert polls.down_since(0) == [False, False]


def test_what_says_the_type_is_no_label_of_the_target() -> None:
    book = TargetBook()
    book.learn(("__type__", "gauge", *flat(A)))
    assert book.target(A) is Target.of({"job": A[0], "instance": A[1]})
