import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import log


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back the logging of the test runner."""
    root, own = logging.getLogger(), logging.getLogger("ebbtide")
    handlers, levels = root.handlers[:], (root.level, own.level)
    monkeypatch.setattr(log, "losses", log.Losses())
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
    assert list(first) == ["level", "logger", "message"]
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


# -- JSON, whatever the record holds --------------------------------------------------------------------------------------


def json_line(message: object, *args: object, name: str = "ebbtide", **extra: object) -> dict[str, str]:
    record = logging.makeLogRecord({"name": name, "levelname": "INFO", "msg": message, "args": args, **extra})
    line = log.JsonFormatter().format(record)
    assert line.isascii()
    assert line.splitlines() == [line]
    found: dict[str, str] = json.loads(line)
    json.dumps(found).encode()  # no lone surrogate, which others' decoders refuse
    for text in found.values():
        text.encode()
    return found


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("a\x00\x1b\x7f\x85\u2028b", "a\x00\x1b\x7f\x85\u2028b"),
        ("\udc80 lone \ud800", "\\udc80 lone \\ud800"),
        ("\U0001f30a é", "\U0001f30a é"),
        ('"quoted" \\ back', '"quoted" \\ back'),
        ("", ""),
        (7, "7"),
        (None, "None"),
    ],
)
def test_any_message_is_valid_json(message: object, shown: str) -> None:
    assert json_line(message)["message"] == shown


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_is_one_line_of_json(text: str) -> None:
    json_line("%s", text, component=text, exc_info=(ValueError, ValueError(text), None))


class Broken:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise ZeroDivisionError("planted")


@pytest.mark.parametrize(
    ("message", "args"), [("%d", ("x",)), ("%s %s", (1,)), ("no place", (1,)), ("%s", (Broken(),))]
)
def test_a_line_whose_arguments_do_not_fit_is_not_lost(message: str, args: tuple[object, ...]) -> None:
    said = json_line(message, *args)["message"]
    assert said.startswith(message)
    assert "cannot fill in its arguments" in said


@pytest.mark.parametrize(
    ("name", "extra", "component"),
    [
        ("ebbtide.receivers.linkerd", {}, "receivers.linkerd"),
        ("ebbtide.exporters.a.b", {}, "exporters.a.b"),
        ("ebbtide.outbox", {"component": "exporters.backend"}, "exporters.backend"),
        ("ebbtide.outbox", {}, None),
        ("ebbtide.receivers", {}, None),
        ("ebbtide", {}, None),
        ("other.receivers.linkerd", {}, None),
        ("ebbtidereceivers.linkerd.x", {}, None),
    ],
)
def test_the_component_is_a_field_where_it_is_known(name: str, extra: dict[str, str], component: str | None) -> None:
    assert json_line("x", name=name, **extra).get("component") == component


def test_warnings_of_libraries_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "json")
    warnings.showwarning("old", DeprecationWarning, "library.py", 7)
    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert (found["level"], found["logger"]) == ("warning", "py.warnings")
    assert "DeprecationWarning: old" in found["message"]


# -- what nobody catches ---------------------------------------------------------------------------------------------------


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hooks as the interpreter has them, whatever the test runner made of them."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.usefixtures("defaults")
def test_an_exception_that_ends_the_agent_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "json")
    error = ZeroDivisionError("planted")
    sys.excepthook(ZeroDivisionError, error, None)
    (line,) = lines(capsys)
    assert (line["level"], line["message"]) == ("critical", "ebbtide ends by a bug")
    assert line["traceback"] == "ZeroDivisionError: planted"


@pytest.mark.usefixtures("defaults")
def test_ctrl_c_stays_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "json")
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "KeyboardInterrupt\n"


@pytest.mark.usefixtures("defaults")
def test_an_exception_of_a_thread_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "json")

    def fail() -> None:
        raise ZeroDivisionError("planted")

    for target in (fail, sys.exit):
        thread = threading.Thread(target=target, name="t1")
        thread.start()
        thread.join()
    (line,) = lines(capsys)
    assert line["message"] == "the thread t1 has ended by a bug"
    assert line["traceback"].endswith("ZeroDivisionError: planted")


@pytest.mark.usefixtures("defaults")
def test_an_exception_without_a_caller_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    class Leaving:
        def __del__(self) -> None:
            raise ZeroDivisionError("planted")

    log.setup("info", "json")
    Leaving()
    (line,) = lines(capsys)
    assert "Leaving.__del__" in line["message"]
    assert line["traceback"].endswith("ZeroDivisionError: planted")


def test_hooks_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sys, "excepthook", own)
    log.setup()
    assert sys.excepthook is own


# -- a stderr that does not take it ------------------------------------------------------------------------------------------


class Stderr:
    """Stands for ``sys.stderr`` over a descriptor."""

    encoding = "utf-8"

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def fileno(self) -> int:
        return self.descriptor


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """A function that makes stderr one end of a pipe and returns the other (in the test itself: capturing resets it)."""
    opened: list[int] = []

    def make() -> int:
        opened.extend(os.pipe())
        os.set_blocking(opened[0], False)
        monkeypatch.setattr(sys, "stderr", Stderr(opened[1]))
        monkeypatch.setattr(log, "PATIENCE", 0.01)
        log.setup()
        return opened[0]

    yield make
    for descriptor in opened:
        os.close(descriptor)


def drain(descriptor: int) -> str:
    found = b""
    try:
        while piece := os.read(descriptor, 1 << 16):
            found += piece
    except BlockingIOError:
        pass
    return found.decode()


def test_who_does_not_read_is_not_waited_for(pipe: Callable[[], int]) -> None:
    """Lines of 1 kB into a pipe of 64 kB, then a reader: nothing blocks, and the loss is said before the next line."""
    reading = pipe()
    logger = logging.getLogger("ebbtide")
    for number in range(200):
        logger.warning("line %03d %s", number, "x" * 1000)
    lost = log.losses.lines
    assert 100 < lost < 200
    said = drain(reading)
    assert said.count("line ") >= 200 - lost
    logger.warning("heard again")
    rest = drain(reading).splitlines()
    assert rest[-2].endswith(f"{lost} log lines could not be written before this")
    assert rest[-1].endswith("heard again")
    logger.warning("and again")
    assert "could not be written" not in drain(reading)
    assert log.losses.lines == lost


def test_a_line_that_was_cut_off_is_ended_before_the_next(pipe: Callable[[], int]) -> None:
    reading = pipe()
    log.setup("info", "json")
    logger = logging.getLogger("ebbtide")
    logger.warning("x" * 200_000)
    drain(reading)
    logger.warning("heard again")
    cut, *rest = drain(reading).split("\n")
    assert cut == ""
    assert [json.loads(line)["message"] for line in rest if line] == [
        "1 log lines could not be written before this",
        "heard again",
    ]


@pytest.mark.parametrize("path", ["/dev/full", "closed"])
def test_a_full_disk_and_a_closed_stderr_are_losses(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if path == "closed":
        reading, descriptor = os.pipe()
        os.close(reading)
    else:
        descriptor = os.open(path, os.O_WRONLY)
    monkeypatch.setattr(sys, "stderr", Stderr(descriptor))
    log.setup()
    try:
        logging.getLogger("ebbtide").warning("lost")
        logging.getLogger("ebbtide").warning("lost")
    finally:
        os.close(descriptor)
    assert log.losses.lines == 2


def test_without_any_stderr_lines_are_lost_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor 2 that was closed may be somebody's socket by now."""
    monkeypatch.setattr(sys, "stderr", None)
    log.setup()
    logging.getLogger("ebbtide").warning("lost")
    assert log.losses.lines == 1


def test_what_the_locale_cannot_encode_is_written_out(pipe: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    reading = pipe()
    monkeypatch.setattr(Stderr, "encoding", "ascii")
    handler = next(one for one in logging.getLogger().handlers if isinstance(one, log.StderrHandler))
    handler.handle(logging.LogRecord("ebbtide", logging.WARNING, "", 0, "é \udc80", (), None))  # pytest cannot take it
    assert drain(reading).endswith("\\xe9 \\udc80\n")
