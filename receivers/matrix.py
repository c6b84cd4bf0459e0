"""What Prometheus' query API answers with, read as it comes: series by series, with bounded memory.

Strategy. An answer may have hundreds of megabytes, nearly all of it the elements of one list, ``result``: a metric's labels
and its samples. They are taken one at a time, and what stands around the list is read as ordinary JSON at the end. Answers
to one question resemble each other: the same metrics come in the same order, so each is compared with the text that came
there last time, and only where that fails are its labels cut out and looked up. Samples of a target have few timestamps, so
their texts are remembered for one answer. Any other element than Prometheus writes, a native histogram's or another server's,
is left to the standard library's scanner: some times dearer, and right for all of JSON.

Source: Prometheus, docs/querying/api.md; web/api/v1/json_codec.go.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ebbtide import Floats, Ints
from receivers.query_native import Written, written_of

Slots = npt.NDArray[np.int32]
Learn = Callable[[dict[str, str]], int]
Native = tuple[int, int, Written | None]
"""Slot, time in ms, and a histogram; None for what cannot be read."""

MOST_ELEMENT = 16 << 20
"""Characters of one element of the result at most, and of all that stands around it."""
PIECE = 256 << 10
"""Bytes that are read at once."""
MOST_TIMES = 100_000
"""Different texts of timestamps that are remembered of one answer; of more, those of the last ones."""
LATEST_MS = (2**63 - 1) // 10**6
"""ms: times are brought between 1970 and what int64 can say in nanoseconds."""
_MOST_NOTES = 100  # warnings that are kept of an answer

_RESULT = re.compile(r'"result"\s*+:\s*+\[\s*+(?=[{\]])')
_BETWEEN = re.compile(r"[\s,]*+")
_METRIC, _VALUES, _CLOSE = '{"metric":{', '},"values":[[', '"]]}'
_TIME = re.compile(r"(?:\],\[)?(-?[0-9.eE+-]{1,40}),")
_DECODER = json.JSONDecoder()


class BadAnswer(ValueError):
    """The answer is not what the query API gives; the text is a clause that says why."""


@dataclass(slots=True)
class Answer:
    """A complete answer. ``slots``, ``times`` (int64 ms) and ``values`` of all float samples, in the order of the answer.

    ``natives`` are its histograms; ``scalar`` is the pair of time and text of an answer that is no list; ``notes`` are the
    server's warnings; ``weight`` as the reader's.
    """

    status: str = ""
    error_type: str = ""
    error: str = ""
    result_type: str = ""
    notes: list[str] = field(default_factory=list)
    slots: Slots = field(default_factory=lambda: np.empty(0, np.int32))
    times: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    values: Floats = field(default_factory=lambda: np.empty(0))
    natives: list[Native] = field(default_factory=list)
    scalar: tuple[float, str] | None = None
    weight: int = 0


class Metrics:
    """The metrics of a source, as they came last; ``learn`` is asked for the slot of one never seen before."""

    def __init__(self, learn: Learn):
        self.learn = learn
        self.forget()

    def forget(self) -> None:
        """Begin anew: slots have been given back."""
        self.texts: list[str] = []
        """Of each element what stands before its samples, in the order of the last answer."""
        self.slots: list[int] = []
        self.places: dict[str, int] = {}
        self.odd: dict[str, int] = {}
        """Slots by the labels of elements that are written otherwise."""

    def renew(self, texts: list[str], slots: list[int], odd: dict[str, int]) -> None:
        """Remember the elements of a complete answer, and no others."""
        if texts != self.texts:
            self.texts, self.slots, self.places = texts, slots, dict(zip(texts, range(len(texts)), strict=True))
        self.odd = odd


class _Times(dict[str, int]):
    """Timestamps in ms by what stands before a value: ``1,`` or, behind another sample, ``],[1,``."""

    def __missing__(self, text: str) -> int:
        match = _TIME.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:40]!r} is no time")
        if len(self) >= MOST_TIMES:
            self.clear()
        self[text] = time = round(float(match[1]) * 1000)
        return time


class AnswerReader:
    """One answer: ``feed`` its bytes as they come, then ``finish``. Both raise BadAnswer.

    ``samples`` and ``weight`` are of what has come so far; a histogram weighs as much as it has buckets, and one more.
    """

    def __init__(self, metrics: Metrics):
        self.samples = self.weight = 0
        self._metrics = metrics
        self._place = 0  # of the next element, if it is as in the last answer
        self._texts: list[str] = []  # as in ``Metrics``, of this answer
        self._slots: list[int] = []
        self._odd: dict[str, int] = {}
        self._times = _Times()
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._head = ""  # what stands before the elements, once they begin
        self._pieces: list[str] = []  # what has come and is not read yet
        self._waiting = 0  # characters of it
        self._text = ""  # the same in one piece, while it is read
        self._phase: Callable[[], None] = self._seek_result
        self._not_before = 0  # characters that must be there before it is worth going on
        self._natives: list[Native] = []
        self._columns: list[tuple[Slots, Ints, Floats]] = []

    def feed(self, data: bytes) -> None:
        """Read what is whole of what has come by now; a long piece in shorter ones, which stay in the processor's cache."""
        for at in range(0, len(data), PIECE):
            self._feed(data[at : at + PIECE])

    def _feed(self, data: bytes, final: bool = False) -> None:
        try:
            text = self._decode(data, final)
        except UnicodeDecodeError as error:
            raise BadAnswer(f"it is not UTF-8: {error.reason}") from None
        self._pieces.append(text)
        self._waiting += len(text)
        if self._waiting >= min(self._not_before, MOST_ELEMENT + 1):
            self._text = "".join(self._pieces)
            self._phase()
            self._pieces, self._waiting = [self._text], len(self._text)
            if self._waiting > MOST_ELEMENT:
                raise BadAnswer(f"one part of it is larger than {MOST_ELEMENT} characters")

    def finish(self) -> Answer:
        """Return the answer. Metrics that are not in it are forgotten from now on, if it is a success."""
        self._not_before = 0
        self._feed(b"", final=True)
        if self._phase == self._take_elements:
            raise BadAnswer("it is cut short, or not JSON")
        answer = self._envelope()
        if self._columns:
            slots, times, values = (np.concatenate(column) for column in zip(*self._columns, strict=True))
            answer.slots, answer.times, answer.values = slots, times.clip(0, LATEST_MS), values
        answer.natives, answer.weight = self._natives, self.weight
        if answer.status == "success":
            self._metrics.renew(self._texts, self._slots, self._odd)
        return answer

    def _seek_result(self) -> None:
        match = _RESULT.search(self._text)
        if match is None:
            self._wait_for(len(self._text))
            return
        self._head, self._text = self._text[: match.end()], self._text[match.end() :]
        self._phase = self._take_elements
        self._take_elements()

    def _take_elements(self) -> None:
        """Take the elements that are whole; go on to what follows them where they end."""
        at = 0
        while True:
            at = _BETWEEN.match(self._text, self._take_plain(at)).end()  # type: ignore[union-attr]
            if self._text.startswith("]", at):
                self._phase, self._not_before = self._wait, MOST_ELEMENT
                break
            try:
                element, at = _DECODER.raw_decode(self._text, self._closed(at))
            except (ValueError, RecursionError):  # not whole yet, or wrong: that shows at the end
                self._wait_for(len(self._text) - at)
                break
            self._take_odd(element)
        self._text = self._text[at:]

    def _closed(self, at: int) -> int:
        """Return the place of an element that may be whole. Raises ValueError for numbers behind which no brace has come."""
        behind = self._text.find("}", at)
        if self._text.startswith(_VALUES, behind) and self._text.find("}", behind + 1) < 0:
            raise ValueError
        return at

    def _wait(self) -> None:
        """What stands behind the elements is read with what stands before them."""

    def _wait_for(self, left: int) -> None:
        """Go on when half as much more has come: what grows is not read anew with every piece."""
        self._not_before = left + left // 2

    def _envelope(self) -> Answer:
        try:
            tree = json.loads(self._head + self._text)
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"it is cut short, or not JSON: {str(error)[:100]}") from None
        if not isinstance(tree, dict):
            raise BadAnswer("it is no object")
        data = tree.get("data")
        data = data if isinstance(data, dict) else {}
        lists = (tree.get(key) for key in ("warnings", "infos"))
        notes = [str(note) for one in lists if isinstance(one, list) for note in one]
        if tree.get("isPartial") is True:
            notes.append("the answer is partial")
        return Answer(
            status=str(tree.get("status", "")),
            error_type=str(tree.get("errorType", "")),
            error=str(tree.get("error", "")),
            result_type=str(data.get("resultType", "")),
            notes=notes[:_MOST_NOTES],
            scalar=_scalar(data.get("result")),
        )

    # -- elements ---------------------------------------------------------------------------------------------------

    def _take_plain(self, at: int) -> int:
        """Take all elements that stand here as Prometheus writes them; return where they end."""
        text, texts, known, place = self._text, self._metrics.texts, self._metrics.slots, self._place
        began, most = len(self._slots), len(texts)
        lists: list[str] = []
        while True:
            if place < most and text.startswith(element := texts[place], at):
                slot, found = known[place], place
            else:
                middle = text.find(_VALUES, at) if text.startswith(_METRIC, at) else -1
                if middle < 0:
                    break
                # A quotation mark inside a text has a backslash before it, so this is no part of a label's value.
                element = text[at : middle + len(_VALUES)]
                found = self._metrics.places.get(element, -1)
                slot = known[found] if found >= 0 else -1
            begin = at + len(element)
            end = text.find(_CLOSE, begin)
            if end < 0 or ":" in (values := text[begin:end]):
                break
            if slot < 0 and (slot := self._learn(element)) < 0:
                break
            self._texts.append(element)
            self._slots.append(slot)
            lists.append(values)
            place = found + 1 if found >= 0 else place  # one that is new stands before the one that was expected
            at = end + len(_CLOSE)
            at += text.startswith(",", at)
        self._place = place
        if lists:
            self._take_numbers(self._slots[began:], lists)
        return at

    def _learn(self, element: str) -> int:
        """Return the slot of a metric never seen before; -1 where the text is not that of one metric."""
        try:
            labels = json.loads(element[len(_METRIC) - 1 : 1 - len(_VALUES)])
        except (ValueError, RecursionError):
            return -1
        return self._metrics.learn(labels) if _are_labels(labels) else -1

    def _take_numbers(self, slots: list[int], lists: list[str]) -> None:
        """Convert the samples of each series: ``1,"2"],[3,"4``."""
        counts = np.array([one.count("[") + 1 for one in lists])
        texts = '"],['.join(lists).split('"')
        samples = int(counts.sum())
        if len(texts) != 2 * samples:
            raise BadAnswer("a sample is no pair of time and value")
        try:
            times = np.fromiter(map(self._times.__getitem__, texts[::2]), np.int64, samples)
            values = np.fromiter(map(float, texts[1::2]), np.float64, samples)
        except (ValueError, OverflowError) as error:
            raise BadAnswer(f"a sample cannot be read: {str(error)[:100]}") from None
        self._note(np.repeat(np.array(slots, np.int32), counts), times, values)

    def _take_odd(self, element: Any) -> None:
        """Take an element that was read by the scanner."""
        try:
            labels = element["metric"]
            pairs = element.get("values", [element["value"]] if "value" in element else [])
            natives = element.get("histograms", [element["histogram"]] if "histogram" in element else [])
            times = np.array([round(float(time) * 1000) for time, _ in pairs], np.int64)
            values = np.array([float(value) for _, value in pairs], np.float64)
            points = [
                (min(max(round(float(time) * 1000), 0), LATEST_MS), written_of(native)) for time, native in natives
            ]
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
            raise BadAnswer(f"an element of its result cannot be read: {json.dumps(element)[:100]}") from None
        if not _are_labels(labels):
            raise BadAnswer(f"the labels of an element cannot be read: {json.dumps(labels)[:100]}")
        if not (len(times) or points):
            return  # nothing is to be remembered of it
        text = json.dumps(labels, separators=(",", ":"), ensure_ascii=False)
        slot = self._metrics.odd.get(text, self._odd.get(text))
        slot = self._odd[text] = self._metrics.learn(labels) if slot is None else slot
        self._natives += [(slot, time, native) for time, native in points]
        self._note(np.full(len(times), slot, np.int32), times, values)
        self.samples += len(points)
        self.weight += sum(1 if native is None else 1 + len(native.counts) for _, native in points)

    def _note(self, slots: Slots, times: Ints, values: Floats) -> None:
        self._columns.append((slots, times, values))
        self.samples += len(slots)
        self.weight += len(slots)


def _are_labels(labels: Any) -> bool:
    return isinstance(labels, dict) and all(isinstance(text, str) for pair in labels.items() for text in pair)


def _scalar(result: Any) -> tuple[float, str] | None:
    """Return a scalar's or a string's pair."""
    if isinstance(result, list) and len(result) == 2 and isinstance(result[1], str):
        try:
            return float(result[0]), result[1]
        except (TypeError, ValueError):
            return None
    return None
