"""What Prometheus' query API answers with, read as it comes: series by series, with bounded memory.

Strategy. An answer may have hundreds of megabytes, nearly all of it the elements of one list, ``result``: a metric's labels
and its samples. They are taken one at a time, and what stands around the list is read as ordinary JSON at the end. An element
as Prometheus writes it is cut by two searches, its labels looked up as the text that they are, and the numbers of a whole
piece are converted at once. Any other element, a native histogram's or another server's, is left to the standard library's
scanner: some times dearer, and right for all of JSON. Texts of labels are remembered while they keep coming.

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

Slots = npt.NDArray[np.int32]
Learn = Callable[[dict[str, str]], int]

MOST_ELEMENT = 64 << 20
"""Characters of one element of the result at most, and of all that stands around it."""
_MOST_NOTES = 100  # warnings that are kept of an answer

_RESULT = re.compile(r'"result"\s*+:\s*+\[\s*+(?=[{\]])')
_BETWEEN = re.compile(r"[\s,]*+")
_METRIC, _VALUES, _CLOSE = '{"metric":{', '},"values":[[', '"]]}'
_DECODER = json.JSONDecoder()


class BadAnswer(ValueError):
    """The answer is not what the query API gives; the text is a clause that says why."""


@dataclass(slots=True)
class Answer:
    """A complete answer. ``slots``, ``times`` (int64 ms) and ``values`` of all float samples, in the order of the answer.

    ``natives`` holds (slot, time in ms, histogram as JSON); ``scalar`` the pair of time and text of an answer that is no list;
    ``notes`` the server's warnings.
    """

    status: str = ""
    error_type: str = ""
    error: str = ""
    result_type: str = ""
    notes: list[str] = field(default_factory=list)
    slots: Slots = field(default_factory=lambda: np.empty(0, np.int32))
    times: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    values: Floats = field(default_factory=lambda: np.empty(0))
    natives: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    scalar: tuple[float, str] | None = None


class Metrics:
    """The metrics of a source by the text of their labels; ``learn`` is asked for the slot of one never seen before."""

    def __init__(self, learn: Learn):
        self.learn = learn
        self.known: dict[str, int] = {}


class AnswerReader:
    """One answer: ``feed`` its bytes as they come, then ``finish``. Both raise BadAnswer."""

    def __init__(self, metrics: Metrics):
        self.samples = 0
        self._metrics = metrics
        self._seen: dict[str, int] = {}
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._head = ""  # what stands before the elements, once they begin
        self._text = ""  # what has come and is not read yet
        self._phase: Callable[[], None] = self._seek_result
        self._not_before = 0  # characters that must be there before it is worth going on
        self._natives: list[tuple[int, int, dict[str, Any]]] = []
        self._columns: list[tuple[Slots, Ints, Floats]] = []

    def feed(self, data: bytes, final: bool = False) -> None:
        """Read what is whole of what has come by now."""
        try:
            self._text += self._decode(data, final)
        except UnicodeDecodeError as error:
            raise BadAnswer(f"it is not UTF-8: {error.reason}") from None
        if len(self._text) >= self._not_before:
            self._phase()
            if len(self._text) > MOST_ELEMENT:
                raise BadAnswer(f"one part of it is larger than {MOST_ELEMENT} characters")

    def finish(self) -> Answer:
        """Return the answer. Metrics that are not in it are forgotten from now on, if it is a success."""
        self._not_before = 0
        self.feed(b"", final=True)
        if self._phase == self._take_elements:
            raise BadAnswer("it is cut short, or not JSON")
        answer = self._envelope()
        if self._columns:
            columns = (np.concatenate(column) for column in zip(*self._columns, strict=True))
            answer.slots, answer.times, answer.values = columns
        answer.natives = self._natives
        if answer.status == "success":
            self._metrics.known = self._seen
        return answer

    def _seek_result(self) -> None:
        match = _RESULT.search(self._text)
        if match is not None:
            self._head, self._text = self._text[: match.end()], self._text[match.end() :]
            self._phase = self._take_elements
            self._take_elements()

    def _take_elements(self) -> None:
        """Take the elements that are whole; go on to what follows them where they end."""
        at = 0
        while True:
            at = _BETWEEN.match(self._text, self._take_plain(at)).end()  # type: ignore[union-attr]
            if self._text.startswith("]", at):
                self._phase, self._not_before = self._wait, 0
                break
            try:
                element, at = _DECODER.raw_decode(self._text, at)
            except (ValueError, RecursionError):  # not whole yet, or wrong: that shows at the end
                left = len(self._text) - at
                self._not_before = left + left // 2  # one that grows is not read anew with every piece
                break
            self._take_odd(element)
        self._text = self._text[at:]

    def _wait(self) -> None:
        """What stands behind the elements is read with what stands before them."""

    def _envelope(self) -> Answer:
        try:
            tree = json.loads(self._head + self._text)
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"it is cut short, or not JSON: {str(error)[:100]}") from None
        if not isinstance(tree, dict):
            raise BadAnswer("it is no object")
        data = tree.get("data")
        data = data if isinstance(data, dict) else {}
        notes = [str(note) for key in ("warnings", "infos") for note in tree.get(key) or ()]
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
        text, known, seen = self._text, self._metrics.known, self._seen
        slots: list[int] = []
        lists: list[str] = []
        while text.startswith(_METRIC, at):
            middle = text.find(_VALUES, at)
            end = text.find(_CLOSE, middle) if middle >= 0 else -1
            if end < 0:
                break
            # A quotation mark inside a text has a backslash before it, so what was found is no part of a label's value.
            metric, values = text[at + len(_METRIC) - 1 : middle + 1], text[middle + len(_VALUES) : end]
            slot = known.get(metric)
            if slot is None:
                slot = seen[metric] if metric in seen else self._learn(metric)
            if slot is None or ":" in values:
                break
            seen[metric] = slot
            slots.append(slot)
            lists.append(values)
            at = end + len(_CLOSE)
            at += text.startswith(",", at)
        if slots:
            self._take_numbers(slots, lists)
        return at

    def _learn(self, metric: str) -> int | None:
        """Return the slot of a metric never seen before; None where the text is not that of one metric."""
        try:
            labels = json.loads(metric)
        except (ValueError, RecursionError):
            return None
        return self._metrics.learn(labels) if _are_labels(labels) else None

    def _take_numbers(self, slots: list[int], lists: list[str]) -> None:
        """Convert the samples of each series: ``1,"2"],[3,"4``."""
        counts = np.array([one.count("[") + 1 for one in lists])
        flat = ",".join(lists).replace('"],[', ",").replace(',"', ",")
        try:
            numbers = np.array(list(map(float, flat.split(",")))).reshape(-1, 2)
        except ValueError as error:
            raise BadAnswer(f"a sample cannot be read: {str(error)[:100]}") from None
        if len(numbers) != counts.sum():
            raise BadAnswer("a sample is no pair of time and value")
        self._note(np.repeat(np.array(slots, np.int32), counts), numbers)

    def _take_odd(self, element: Any) -> None:
        """Take an element that was read by the scanner."""
        try:
            labels = element["metric"]
            pairs = element.get("values", [element["value"]] if "value" in element else [])
            natives = element.get("histograms", [element["histogram"]] if "histogram" in element else [])
            numbers = np.array([(float(time), float(value)) for time, value in pairs]).reshape(-1, 2)
            points = [(round(float(time) * 1000), dict(native)) for time, native in natives]
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
            raise BadAnswer(f"an element of its result cannot be read: {json.dumps(element)[:100]}") from None
        if not _are_labels(labels):
            raise BadAnswer(f"the labels of an element cannot be read: {json.dumps(labels)[:100]}")
        text = json.dumps(labels, separators=(",", ":"), ensure_ascii=False)
        slot = self._metrics.known.get(text, self._seen.get(text))
        slot = self._seen[text] = self._metrics.learn(labels) if slot is None else slot
        self._natives += [(slot, time, native) for time, native in points]
        self._note(np.full(len(numbers), slot, np.int32), numbers)
        self.samples += len(points)

    def _note(self, slots: Slots, numbers: Floats) -> None:
        with np.errstate(invalid="ignore"):
            times = np.rint(numbers[:, 0] * 1000.0).astype(np.int64)
        self._columns.append((slots, times, numbers[:, 1].copy()))
        self.samples += len(slots)


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
