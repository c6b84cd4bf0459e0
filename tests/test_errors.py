"""docs/errors.md and the program say the same: every message has one row with cause and cure, every row is a message."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.messages import CURE, HOLE, NO_MESSAGES, ROOT, clauses, messages, messages_of

PAGE = ROOT / "docs/errors.md"

HEADERS = ("message", "reason", "answer", "last line")
"""What a table of the page lists; the first are whole sentences, the others parts of them."""

OTHER_FORMS = {
    f"expected a whole number, {HOLE} or more": "argparse puts the option before it",
    "expected a port, at most 65535": "argparse puts the option before it",
    'expected a duration such as "30m" or "6h"': "argparse puts the option before it",
    f"left out: {HOLE}.{HOLE}: {HOLE}": "the sentence follows",
    "not a valid value": "nothing more is known",
    f"exporter {HOLE}: the destination refused {HOLE} of {HOLE} points: {HOLE}": "the sentence follows",
    f"{HOLE} says: {HOLE}": "the words of a destination follow",
    f"the agent's own telemetry: {HOLE}": "the words of a library follow",
    f"the answer of {HOLE} is not OTLP's ({HOLE} bytes), taken for success": "nothing failed",
    f"receivers.{HOLE}: the server warns: {HOLE}": "the words of a server follow",
    "the destination asks to try again": "nothing more is known",
    "the destination refused the data": "nothing more is known",
    "the destination took a part of the request": "no failure",
    f"the request is larger than `max_request`, {HOLE} bytes": "it is only in a span",
    f"standard output is closed ({HOLE})": "no failure",
    "giving up at a second signal: what is held is lost": "it was asked for",
    f"no processor {HOLE} is installed: resources stay empty": "a consequence",
    f"{HOLE} log lines could not be written before this": "a note",
    f"warning: and {HOLE} warnings more": "a note",
    "an exception has no caller, in": "Python's own words for most of them are others",
}
"""Sentences that neither begin with "cannot", nor say what to try, nor own up to a bug -> why."""


class Entry(NamedTuple):
    """One row of a table of the page."""

    header: str
    message: str
    cause: str
    cure: str


def entries() -> Iterator[Entry]:
    """The rows of the page."""
    header = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[1:] == ["cause", "cure"]:
            header = cells[0]
        elif not cells:
            header = ""
        elif header and not cells[0].startswith("---"):
            assert len(cells) == 3, line
            yield Entry(header, _uncoded(cells[0]), cells[1], cells[2])


def _uncoded(cell: str) -> str:
    match = re.fullmatch(r"`` (?P<with_backticks>.*) ``|`(?P<plain>[^`]*)`", cell)
    assert match is not None, f"not set as code: {cell}"
    return match["with_backticks"] or match["plain"]


def test_every_message_has_a_row() -> None:
    listed = {entry.message for entry in entries()}
    missing = [f"{', '.join(where)}: {text}" for text, where in messages().items() if text not in listed]
    assert missing == [], "add them to docs/errors.md, with cause and cure"


def test_every_row_is_a_message() -> None:
    known = messages()
    unknown = [entry.message for entry in entries() if entry.message not in known]
    assert unknown == [], "nothing says this any more: correct or remove the rows in docs/errors.md"


def test_no_message_has_two_rows() -> None:
    counted = Counter(entry.message for entry in entries())
    assert [text for text, rows in counted.items() if rows > 1] == []


def test_every_row_says_something_new() -> None:
    poor = [entry.message for entry in entries() if not _tells(entry.cause, entry) or not _tells(entry.cure, entry)]
    assert poor == [], "a cause and a cure are sentences of their own"
    assert [entry.message for entry in entries() if entry.cause == entry.cure] == []


def _tells(cell: str, entry: Entry) -> bool:
    """Whether a cell is a sentence, and not the message again."""
    return len(cell) > len("See it.") and cell.endswith(".") and cell.rstrip(".").lower() not in entry.message.lower()


def test_tables_are_of_known_kinds() -> None:
    assert {entry.header for entry in entries()} == set(HEADERS)


def test_sentences_are_built_as_the_house_builds_them() -> None:
    """What failed ("cannot ..."), or a mistake and its cure ("...; ..."), or a bug that is called one."""
    sentences = [entry.message for entry in entries() if entry.header == "message"]
    others = [text for text in sentences if not ("cannot " in text or CURE in text or re.search(r"\bbug\b", text))]
    assert [text for text in others if text not in OTHER_FORMS] == [], "begin with cannot, or say what to try"
    assert [text for text in OTHER_FORMS if text not in others] == [], "no exception any more"


def test_what_is_no_message_still_stands_in_the_source() -> None:
    known = clauses()
    assert [text for text in NO_MESSAGES if text not in known] == []


SOURCE = '''
"""Documentation; cannot count."""
def work(url, log):
    log.debug("cannot matter; it is quiet")
    log.warning("exporter %s: it is %d late", url, 3)
    option("4MiB", "help; of an option")
    if not url:
        raise ConfigError(f"cannot use {url!r}: it is "
                          f"empty; write one")
    why = "it is closed" if url else f"it is {url} things"
    problem = f"{url}:1: not right; correct it"
    raise KeyError("some key of a dict")
'''


def test_messages_are_read_off_the_source() -> None:
    assert set(messages_of(SOURCE)) == {
        f"exporter {HOLE}: it is {HOLE} late",
        f"cannot use {HOLE}: it is empty; write one",
        "it is closed",
        f"it is {HOLE} things",
        f"{HOLE}:1: not right; correct it",
    }


def test_reasons_are_read_off_pairs() -> None:
    source = 'def why(): return "tls", "it is closed there", "open the door"'
    assert list(messages_of(source, pairs=True)) == ["it is closed there"]
    assert list(messages_of(source)) == []
