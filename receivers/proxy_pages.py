"""From answers to samples: each page in the format that it came in, those of the text format all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ebbtide import Extra
from receivers import openmetrics
from receivers.dialects import OPENMETRICS, TEXT, Dialect
from receivers.exposition import BadPage, OnBadLine
from receivers.limits import Limits, TooMuch
from receivers.negotiation import Format
from receivers.page_memory import PageMemory, Portion, Reading
from receivers.page_source import PageSource
from receivers.page_store import PageRules
from receivers.skeleton import Page
from receivers.tables import Tables
from receivers.together import Failure, Together

_DIALECTS: Mapping[Format, Dialect] = {"text": TEXT, "openmetrics": OPENMETRICS}

PIECE = 8 << 20  # bytes of pages that are read in one go, unless one alone is larger


@dataclass(slots=True)
class Answered:
    """What a poll of a target brought: the body of a page, or the sentence that says why there is none.

    ``bug``: the exception that is why, where it is one that ought not to be. Once the page is read, ``failure`` and ``bug``
    also say why it could not be, and ``samples`` how many it had.
    """

    source: PageSource
    where: str
    when: int
    seconds: float
    body: bytes = b""
    format: Format = "text"
    failure: str = ""
    bug: Exception | None = None
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """A poll whose page was read; ``failure`` and ``bug`` say why it was not, as in ``Answered``."""

    reading: Reading
    failure: str = ""
    where: str = ""
    bug: Exception | None = None


def portions(answers: Sequence[Answered]) -> Iterator[list[Answered]]:
    """Cut what is to be read into portions that hold up nobody for long."""
    portion: list[Answered] = []
    size = 0
    for answer in answers:
        if portion and size + len(answer.body) > PIECE:
            yield portion
            portion, size = [], 0
        portion.append(answer)
        size += len(answer.body)
    if portion:
        yield portion


class Pages:
    """Reads what polls have brought."""

    def __init__(self) -> None:
        self._together = Together()

    def read(self, answers: Sequence[Answered], rules: PageRules) -> list[Read]:
        """Read the pages of some targets, each target once; in their order. A bug is the failure of its page alone."""
        try:
            return self._read(answers, rules)
        except Exception as bug:  # noqa: BLE001 - one page costs no other
            for answer in answers:
                answer.source.lose_page()
            if len(answers) > 1:
                return [read for answer in answers for read in self.read([answer], rules)]
            (answer,) = answers
            reading = Reading(answer.source, answer.when, answer.seconds)
            return [Read(reading, bug_of(answer.where), answer.where, bug)]

    def _read(self, answers: Sequence[Answered], rules: PageRules) -> list[Read]:
        pages: dict[int, Page | Failure] = {}
        if rules.strict_openmetrics:
            pages = {id(answer): offence for answer in answers if (offence := _offence(answer)) is not None}
        else:
            _call_text_what_is_empty(answers)
        for format in _DIALECTS:
            at_once = [
                answer
                for answer in answers
                if not answer.failure and answer.format == format and id(answer) not in pages
            ]
            read = self._read_lines(at_once, rules.limits)
            pages.update((id(answer), page) for answer, page in zip(at_once, read, strict=True))
        reads = []
        for answer in answers:
            reading = Reading(answer.source, answer.when, answer.seconds)
            failure: Failure | str
            if answer.failure:
                failure = answer.failure
            elif answer.format in _DIALECTS:
                page = pages[id(answer)]
                failure = page if isinstance(page, Failure) else _take_lines(reading, page)
            else:
                failure = _take_messages(reading, answer, rules)
            reads.append(Read(reading, _sentence(failure, answer.where), answer.where, answer.bug))
        return reads

    def _read_lines(self, answers: list[Answered], limits: Limits) -> list[Page | Failure]:
        if not answers:
            return []
        readers = [answer.source.expect(_DIALECTS[answer.format]).read() for answer in answers]
        # The page is known to be whole, so its last line need not end; Prometheus' parser sees to that, too.
        bodies = [body if not (body := answer.body) or body.endswith(b"\n") else body + b"\n" for answer in answers]
        pages = self._together.read(readers, bodies, limits.samples)
        for answer, reader, page in zip(answers, readers, pages, strict=True):
            if isinstance(page, Failure):
                reader.abandon()
                answer.source.forget_page()
        return pages


def _call_text_what_is_empty(answers: Sequence[Answered]) -> None:
    """An answer without a body is a good page without samples in any format (scrape.go, "Empty scrape")."""
    for answer in answers:
        if not answer.body:
            answer.format = "text"


def _offence(answer: Answered) -> BadPage | None:
    """Return how a page of OpenMetrics breaks its specification: a look at each line, beside the reading itself."""
    if answer.failure or answer.format != "openmetrics":
        return None
    try:
        openmetrics.parse_page(answer.body, strict=True)
    except BadPage as offence:
        return offence
    return None


def take(memory: PageMemory, tables: Tables, reads: list[Read]) -> tuple[list[Read], Iterator[Portion]]:
    """Take polls into memory in one pass. Where a bug hinders that: one by one, and the one that has it as failed.

    Returns what came of the polls, and what is to be sent.
    """
    try:
        return reads, memory.take(tables, [read.reading for read in reads])
    except Exception as bug:  # noqa: BLE001 - one page costs no other
        if len(reads) > 1:
            alone = [take(memory, tables, [read]) for read in reads]
            sent = chain.from_iterable([portions for _, portions in alone])
            return [read for ones, _ in alone for read in ones], sent
        (read,) = reads
        failed = Read(read.reading, read.failure or bug_of(read.where), read.where, bug)
        return [failed], memory.give_up(tables, read.reading)


def bug_of(where: str) -> str:
    """Return the sentence for an exception that ought not to be."""
    return f"cannot take the page of {where}: a bug of this receiver; report it with the page, which curl saves"


def _take_lines(reading: Reading, page: Page) -> str:
    source = reading.source
    if not page.steady:
        source.read_comments(page.comments)
    reading.good, reading.steady = True, page.steady
    reading.slots, reading.values, reading.times = page.slots, page.values, page.times
    reading.bad_lines, reading.born = page.bad_count, source.born
    if page.exemplars:
        rows = sorted(page.exemplars, reverse=True)  # of lines that stand twice the first counts
        reading.extras = {int(page.slots[row]): Extra(exemplars=page.exemplars[row]) for row in rows}
    return ""


def _take_messages(reading: Reading, answer: Answered, rules: PageRules) -> Failure | str:
    """Take a page of protobuf, which is parsed message by message."""
    source = reading.source
    on_bad_line: OnBadLine = "skip" if rules.skip_bad_lines else "refuse"
    try:
        page = source.expect_messages().read(answer.body, on_bad_line=on_bad_line, most=rules.limits.samples)
    except (BadPage, TooMuch) as failure:
        source.forget_page()
        return failure
    if not page.steady:
        source.read_families(page.metadata)
    reading.good, reading.steady, reading.bad_lines = True, page.steady, len(page.bad_lines)
    reading.slots, reading.values, reading.times, reading.born = page.slots, page.values, page.times, source.born
    reading.created = {int(page.slots[row]): page.created[row] for row in reversed(page.created)}
    reading.extras = {
        int(page.slots[row]): Extra(page.natives.get(row), page.exemplars.get(row, ()))
        for row in sorted(page.natives.keys() | page.exemplars.keys(), reverse=True)
    }
    return ""


def _sentence(failure: Failure | str, where: str) -> str:
    if isinstance(failure, BadPage):
        return failure.said_of(where)
    return f"cannot take the page of {where}: {failure}" if isinstance(failure, TooMuch) else failure
