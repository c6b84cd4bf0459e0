"""The easy bases of plugins do what they promise."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.batch import Batch, Floats, Ints, Row
from agent.identity import Family
from agent.ledger import ExporterCounts, ProcessorCounts, ReceiverCounts
from agent.native import Exemplar, Extra, NativeHistogram
from agent.plugin import (
    ConfigError,
    Context,
    Emit,
    Exporter,
    Payload,
    Processor,
    Receiver,
    Rejected,
    Retry,
    RowProcessor,
    SeriesProcessor,
    ValueProcessor,
)
from agent.series import Series, SeriesTable
from agent.settings import Settings, option


def batch(names: Iterable[str], stale: Iterable[int] = ()) -> Batch:
    ends = set(stale)
    return Batch.of(Row(Series.of(name), float(row), row, 0, row in ends) for row, name in enumerate(names))


def names(result: Batch | None) -> str:
    return "" if result is None else "".join(series.name for series in result.table)


class Suffix(Settings):
    """Options of the mapper below."""

    suffix: str = option("", "Added to the name.")


class Maps(SeriesProcessor[Suffix]):
    """Drops what starts with x, lowers the rest and adds the suffix; counts its calls."""

    Settings = Suffix
    calls = 0

    def map_series(self, series: Series) -> Series | None:
        type(self).calls += 1
        if series.name.startswith("x"):
            return None
        name = series.name.lower() + self.settings.suffix
        return series.but(name=name, family=Family(name))


@pytest.fixture(autouse=True)
def no_calls() -> None:
    Maps.calls = 0


# -- components --------------------------------------------------------------------------------------------------


class NoOptions(Processor[Any]):
    """A plugin without settings."""

    def process(self, batch: Batch) -> Batch | None:
        return batch


def test_a_plugin_without_options_has_the_empty_settings() -> None:
    plugin = NoOptions()
    assert plugin.settings.model_dump() == {}
    assert plugin.context.id == "nooptions"
    assert plugin.counts is plugin.counts
    assert isinstance(plugin.counts, ProcessorCounts)


def test_counts_are_those_of_the_context() -> None:
    counts = ProcessorCounts()
    assert NoOptions(None, Context("p", counts)).counts is counts


def test_the_defaults_of_a_settings_class_hold_without_a_file() -> None:
    assert Maps().settings.suffix == ""
    assert Maps(Suffix(suffix="s")).settings.suffix == "s"


class Listens(Receiver[Any]):
    """A receiver that is spoken to."""

    async def run(self, emit: Emit) -> None:
        raise NotImplementedError


class Asks(Listens):
    """A receiver that polls."""

    async def once(self, emit: Emit) -> None:
        raise NotImplementedError


async def test_a_receiver_that_does_not_poll_says_so() -> None:
    async def emit(batch: Batch) -> None:
        raise AssertionError

    receiver = Listens(None, Context("r"))
    assert (receiver.polls, Asks().polls) == (False, True)
    with pytest.raises(ConfigError, match="cannot run r once"):
        await receiver.once(emit)
    assert isinstance(receiver.counts, ReceiverCounts)


def test_answers_carry_their_numbers_and_have_a_text() -> None:
    assert (Retry(3.0).after, str(Retry(3.0, "busy"))) == (3.0, "busy")
    assert "try again" in str(Retry())
    assert (Rejected(4, "late").points, str(Rejected(4, "late"))) == (4, "late")
    assert Rejected().points is None
    assert "refused" in str(Rejected())
    assert (ConfigError("no", "url").option, ConfigError("no").option) == ("url", "")


# -- series processors -------------------------------------------------------------------------------------------


def test_a_steady_form_is_mapped_once() -> None:
    processor, given_batch = Maps(), batch("AxB")
    first = processor.process(given_batch)
    second = processor.process(given_batch.but(values=np.array([5.0, 6.0, 7.0])))
    assert names(first) == names(second) == "ab"
    assert first is not None
    assert second is not None
    assert first.table is second.table
    assert second.values.tolist() == [5, 7]
    assert Maps.calls == 3
    assert processor.counts.dropped == {"filtered": 2}


def test_a_changed_form_maps_its_new_rows_only() -> None:
    processor, first = Maps(), batch("AxB")
    processor.process(first)
    processor.process(batch("AxBC"))
    assert Maps.calls == 4


def test_equal_settings_share_what_was_mapped_and_others_do_not() -> None:
    given_batch = batch("AB")
    one = Maps(Suffix(suffix="s"))
    one.process(given_batch)
    Maps(Suffix(suffix="s")).process(given_batch)
    assert Maps.calls == 2
    assert [series.name for series in Maps(Suffix(suffix="t")).process(given_batch).table] == ["at", "bt"]  # type: ignore[union-attr]
    assert Maps.calls == 4


def test_what_a_processor_mapped_goes_with_it() -> None:
    given_batch, processor = batch("AB"), Maps()
    result = processor.process(given_batch)
    assert result is not None
    end = weakref.ref(result.table)
    del processor, result
    Maps(Suffix(suffix="other")).process(given_batch)
    gc.collect()
    assert end() is None


def test_nothing_changed_is_the_same_batch() -> None:
    given_batch = batch("ab")
    assert Maps().process(given_batch) is given_batch


def test_new_names_are_the_same_columns_under_another_table() -> None:
    given_batch = batch("AB", stale=[1])
    result = Maps().process(given_batch)
    assert result is not None
    assert result.values is given_batch.values
    assert result.stale is given_batch.stale
    assert result.table is not given_batch.table


def test_nothing_left_is_none() -> None:
    processor = Maps()
    assert processor.process(batch("xx")) is None
    assert processor.counts.dropped == {"filtered": 2}


def test_of_rows_that_become_one_identity_the_first_stays(caplog: pytest.LogCaptureFixture) -> None:
    processor, given_batch = Maps(None, Context("lower")), batch("AaxBA")
    result = processor.process(given_batch)
    assert names(result) == "ab"
    assert result is not None
    assert result.values.tolist() == [0, 3]
    assert processor.counts.dropped == {"filtered": 1, "collision": 2}
    processor.process(given_batch)
    assert processor.counts.dropped == {"filtered": 2, "collision": 4}
    (record,) = caplog.records
    assert record.getMessage() == (
        "processor lower makes 2 series equal to others (first: A{} and a{} both become a{}); the first of each is kept"
    )


def test_the_reason_of_a_drop_is_the_plugins() -> None:
    class Relabels(Maps):
        drop_reason = "relabel"

    processor = Relabels()
    processor.process(batch("xA"))
    assert processor.counts.dropped == {"relabel": 1}


@given(st.lists(st.sampled_from(["A", "a", "b", "B", "x", "c", "xy"]), max_size=9))
def test_vector_equals_one_by_one(given_names: list[str]) -> None:
    processor, given_batch = Maps(), batch(given_names)
    expected: dict[str, float] = {}
    for row in given_batch.rows():
        if not row.series.name.startswith("x"):
            expected.setdefault(row.series.name.lower(), row.value)
    result = processor.process(given_batch)
    found = {} if result is None else {row.series.name: row.value for row in result.rows()}
    assert found == expected
    assert (0 if result is None else len(result)) + processor.counts.dropped.total() == len(given_batch)


# -- value and row processors ------------------------------------------------------------------------------------


class Doubles(ValueProcessor[Any]):
    """Doubles the values of what is wanted."""

    asked = 0

    def wants(self, series: Series) -> bool:
        self.asked += 1
        return series.name == "a"

    def map_values(self, values: Floats, times: Ints) -> Floats:
        return values * 2 + times * 0


def test_only_wanted_values_are_mapped_and_the_choice_is_remembered() -> None:
    processor, given_batch = Doubles(), batch("abaa", stale=[3])
    for _ in range(2):
        result = processor.process(given_batch)
        assert result is not None
        assert result.values.tolist() == [0, 1, 4, 3]
    assert processor.asked == 4
    assert given_batch.values.tolist() == [0, 1, 2, 3]  # the input is left alone


def test_a_batch_without_wanted_rows_passes_as_it_is() -> None:
    for given_batch in (batch("bc"), batch("ab", stale=[0]), batch("")):
        assert Doubles().process(given_batch) is given_batch


class EachRow(RowProcessor[Any]):
    """Drops b, changes the rest."""

    def map_row(self, row: Row) -> Row | None:
        return None if row.series.name == "b" else Row(row.series, row.value + 1, row.time, row.start, row.stale)


def test_rows_are_mapped_one_by_one() -> None:
    result = EachRow().process(batch("abc", stale=[2]))
    assert result is not None
    assert [(row.series.name, row.value, row.stale) for row in result.rows()] == [("a", 1.0, False), ("c", 3.0, True)]
    assert EachRow().process(batch("b")) is None


NATIVE = Extra(NativeHistogram.of(count=2.0, sum=1.0, schema=0, positive={1: 2.0}))
EXEMPLARS = Extra(exemplars=(Exemplar(("trace_id", "x"), 1.0, 0),))


def with_extras(names: str, extras: dict[int, Extra]) -> Batch:
    table = SeriesTable(Series.of(name) for name in names)
    return Batch(table, np.zeros(len(names)), np.zeros(len(names), np.int64), extras=extras)


def test_extras_go_where_their_rows_go() -> None:
    result = EachRow().process(with_extras("abc", {0: NATIVE, 1: NATIVE, 2: EXEMPLARS}))
    assert result is not None
    assert result.extras == {0: NATIVE, 1: EXEMPLARS}


class WithoutExemplars(RowProcessor[Any]):
    def map_row(self, row: Row) -> Row | None:
        return replace(row, extra=Extra())


def test_a_row_can_lose_its_extra() -> None:
    result = WithoutExemplars().process(with_extras("a", {0: EXEMPLARS}))
    assert result is not None
    assert result.extras == {0: Extra()}


def test_values_of_native_histograms_are_left_alone() -> None:
    result = Doubles().process(with_extras("aab", {0: NATIVE, 1: EXEMPLARS}).but(values=np.full(3, 2.0)))
    assert result is not None
    assert result.values.tolist() == [2.0, 4.0, 2.0]


# -- exporters ---------------------------------------------------------------------------------------------------


class Sends(Exporter[Any]):
    """The least an exporter must be."""

    def encode(self, batch: Batch) -> Iterable[Payload]:
        return []

    async def send(self, payload: Payload) -> None:
        raise NotImplementedError


async def test_the_defaults_of_an_exporter() -> None:
    exporter = Sends()
    payload = Payload(b"", b"xy", 1, 1)
    assert exporter.join([b"a", b"b"]) == b"ab"
    assert exporter.unseal(exporter.seal(b"body")) == b"body"
    assert exporter.cut(payload, 1) == [payload]
    assert isinstance(exporter.counts, ExporterCounts)
    async with exporter:
        pass


@pytest.mark.parametrize("kind", [Receiver, Processor, SeriesProcessor, ValueProcessor, RowProcessor, Exporter])
def test_a_kind_alone_is_no_plugin(kind: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="abstract"):
        kind()


def test_contexts_do_not_share() -> None:
    assert Context("a").log is logging.getLogger("ebbtide")
    assert Context("a").counts is None
    assert Context("a").now() > 10**18
