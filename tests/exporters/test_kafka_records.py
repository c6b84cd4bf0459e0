"""Bundles of records: framed, joined, told apart, dealt out."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from ebbtide import EMPTY_RESOURCE, Resource
from exporters.kafka_records import (
    AROUND,
    Record,
    bundle,
    first_value,
    key_of,
    payload_of,
    records_of,
    room_for_value,
    runs,
    waves,
)

RECORDS = st.lists(
    st.builds(
        Record,
        st.integers(0, 3),
        st.sampled_from([b"", b"a", b"b\x1fc"]),
        st.binary(min_size=1, max_size=20),
        st.integers(0, 9),
        st.integers(0, 2**32 - 1),
    ),
    max_size=20,
)


def whole(records: Iterable[Record]) -> list[Record]:
    """With values of their own."""
    return [record._replace(value=bytes(record.value)) for record in records]


def numbered(records: list[Record]) -> list[Record]:
    """The same with the numbers that their batches have in a bundle."""
    batches = groupby(records, lambda record: record.group)
    return [one._replace(group=number) for number, (_, batch) in enumerate(batches, 1) for one in batch]


@given(RECORDS, RECORDS)
def test_bundles_join_and_come_apart(some: list[Record], more: list[Record]) -> None:
    apart = [record._replace(group=record.group + 10) for record in more]
    assert whole(records_of(bundle(some) + bundle(more))) == numbered(some + apart)


@given(RECORDS, RECORDS)
def test_what_came_together_is_one_group_over_bundles(some: list[Record], more: list[Record]) -> None:
    one, other = ([record._replace(group=1) for record in records] for records in (some, more))
    joined = bundle(one) + (bundle(other, first=False) if other else b"")
    assert {record.group for record in records_of(joined)} <= {int(bool(some))}
    assert [bytes(record.value) for record in records_of(joined)] == [record.value for record in some + more]


@given(RECORDS)
def test_a_payload_counts_what_is_in_it(records: list[Record]) -> None:
    payload = payload_of(records)
    assert payload.samples == sum(record.samples for record in records)
    assert payload.points == sum(record.points for record in records)
    assert whole(records_of(payload.body)) == numbered(records)
    if records:
        assert first_value(payload.body) == records[0].value[:1]


@given(RECORDS, st.integers(1, 200))
def test_runs_are_no_larger_than_asked_for_but_for_single_records(records: list[Record], size: int) -> None:
    dealt = list(runs(records, size))
    assert [record for run in dealt for record in run] == records
    assert all(len(bundle(run)) <= size or len(run) == 1 for run in dealt)
    assert all(len(bundle([*run, after[0]])) > size for run, after in pairwise(dealt))


@given(RECORDS)
def test_no_key_of_a_wave_comes_from_two_groups(records: list[Record]) -> None:
    dealt = list(waves(records))
    assert [record for wave in dealt for record in wave] == records
    for wave in dealt:
        for _, same in groupby(sorted(wave, key=lambda record: record.key), lambda record: record.key):
            assert len({record.group for record in same}) == 1


def test_what_has_different_keys_or_one_group_is_one_wave() -> None:
    records = [Record(batch, key, b"", 1, 1) for batch, key in [(1, b"a"), (1, b"a"), (2, b"b"), (3, b"c"), (2, b"b")]]
    assert list(waves(records)) == [records]
    assert [len(wave) for wave in waves([*records, Record(4, b"a", b"", 1, 1), Record(2, b"b", b"", 1, 1)])] == [5, 2]


def test_the_room_for_a_value_leaves_room_for_its_frame() -> None:
    record = Record(1, b"key", b"v" * 80, 2, 2)
    room = room_for_value(record, 100)
    assert len(bundle([record._replace(value=b"v" * room)])) == 100
    assert room_for_value(record, 1) == 1
    assert record.size == 83 + AROUND


def test_keys_are_values_joined_by_the_unit_separator() -> None:
    resource = Resource.of({"service.name": "web", "on": True, "n": 3, "b": "", "é": "ü"})
    assert key_of(resource, None) == b"\x1f3\x1ftrue\x1fweb\x1f\xc3\xbc"  # in order of b, n, on, service.name, é
    assert key_of(resource, ("service.name", "gone", "on")) == b"web\x1f\x1ftrue"
    assert key_of(EMPTY_RESOURCE, None) == b""
    assert key_of(EMPTY_RESOURCE, ("a", "b")) == b"\x1f"
