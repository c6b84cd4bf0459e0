import json
import logging
import re
from collections.abc import Iterator

import pytest

from agent import log


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Give back the logging of the test runner."""
    root, own = logging.getLogger(), logging.getLogger("ebbtide")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    logging.captureWarnings(False)


def test_text_is_made_for_eyes(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "text")
    logging.getLogger("ebbtide").warning("cannot reach %s:\nline 2\tx \x1b[31mred\x9b\x00", "host")
    line = capsys.readouterr().err
    assert re.match(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d warning  cannot reach host:\n    line 2\tx \\x1b\[31mred\\x9b\\x00\n\Z", line
    )


def test_text_keeps_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup()
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        logging.getLogger("ebbtide.part").exception("it failed")
    said = capsys.readouterr().err
    assert "error    it failed\n    Traceback (most recent call last):\n" in said
    assert said.endswith("\n    ZeroDivisionError: why\n")


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("debug", "json")
    logger = logging.getLogger("ebbtide.part")
    logger.debug("two\nlines é")
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        logger.exception("it failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {"level": "debug", "logger": "ebbtide.part", "message": "two\nlines é"}
    assert second["message"] == "it failed"
    assert second["traceback"].endswith("ZeroDivisionError: why")


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("debug")
    logging.getLogger("httpcore").debug("Authorization: secret")
    logging.getLogger("httpx").info("GET http://user:secret@host")
    logging.getLogger("httpx").warning("heard")
    logging.getLogger("ebbtide").debug("ours")
    said = capsys.readouterr().err
    assert "secret" not in said
    assert "heard" in said
    assert "ours" in said
    log.setup("error")
    logging.getLogger("ebbtide").warning("not heard")
    assert capsys.readouterr().err == ""


def test_a_second_set_up_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup()
    log.setup("info", "json")
    logging.getLogger("ebbtide").warning("once")
    assert capsys.readouterr().err.count("once") == 1
