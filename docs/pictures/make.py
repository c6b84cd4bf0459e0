"""Draws the pictures of the README: real output of real commands on the demo mesh, as SVG.

Run it from the root of the repository: python docs/pictures/make.py [NAME ...]. Each command of ``PICTURES`` runs in a
terminal of its own (a pty of ``COLUMNS`` columns), and what it wrote is drawn cell by cell. Needs curl. Numbers move from run to run:
the mesh is a simulation that goes on.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent

COLUMNS = 118
ROWS = 34  # at most, of a picture; what is below is left out, and an ellipsis says so
CELL = 8.4  # width of a cell, px
LINE = 19.0
MARGIN = 14.0
BAR = 26.0  # height of the title bar

# What the README shows: name -> the command, which is run as it is shown.
PICTURES = {
    "federate": "curl -sG $URL/federate --data-urlencode 'match[]={__name__=~\"response_.*\"}' | cut -c-118",
    "once": "ebbtide once docs/pictures/shop.toml",
    "preview": "ebbtide preview docs/pictures/preview.toml --pairs 2",
}
SHOWN_ROWS = {"federate": 9, "preview": 64}

FOREGROUND, BACKGROUND, FRAME = "#d8dee9", "#1d2129", "#2a303b"
COLOURS = {"31": "#bf616a", "32": "#a3be8c", "33": "#ebcb8b", "35": "#b48ead", "36": "#88c0d0"}
FAINT = "#7b8494"
_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


class Run(NamedTuple):
    """Text in one style, beginning at a column."""

    column: int
    text: str
    colour: str
    bold: bool


def in_terminal(command: list[str], environment: dict[str, str]) -> str:
    """Return what a command writes to a terminal of ``COLUMNS`` columns."""
    child, descriptor = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.chdir(ROOT)
        os.execve(command[0], command, environment)
    written = b""
    while piece := _piece(descriptor):
        written += piece
    os.waitpid(child, 0)
    return written.decode().replace("\r\n", "\n")


def _piece(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # Linux's way to say that the other side is closed
        return b""


def runs(line: str) -> list[Run]:
    """Part a line into runs of one style."""
    found, column, colour, bold = [], 0, FOREGROUND, False
    for position, part in enumerate(_ESCAPE.split(line)):
        if position % 2:
            codes = part.split(";")
            bold = "1" in codes
            colour = next((COLOURS[code] for code in codes if code in COLOURS), FAINT if "2" in codes else FOREGROUND)
        elif part:
            found.append(Run(column, part, colour, bold))
            column += len(part)
    return found


def drawn(command: str, text: str, rows: int = ROWS) -> str:
    """Return a terminal with the command and what it wrote, as SVG."""
    lines = text.rstrip("\n").split("\n")
    if len(lines) > rows:
        lines = [*lines[:rows], f"\x1b[2m… and {len(lines) - rows:,} lines more\x1b[0m"]
    lines = [f"\x1b[32m$\x1b[0m {command}", *lines]
    width, height = COLUMNS * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN + BAR
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(command, {chr(34): "&quot;"})}">',
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        f'<path d="M0 {BAR}V8a8 8 0 0 1 8-8H{width - 8:.0f}a8 8 0 0 1 8 8V{BAR}z" fill="{FRAME}"/>',
        *(f'<circle cx="{MARGIN + 4 + 18 * i:.0f}" cy="{BAR / 2}" r="5" fill="#4c566a"/>' for i in range(3)),
        '<g font-family="ui-monospace,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" font-size="14" xml:space="preserve">',
    ]
    for number, line in enumerate(lines):
        y = BAR + MARGIN + LINE * (number + 0.75)
        out += [_text(run, y) for run in runs(line) if run.text.strip() and run.column < COLUMNS]
    return "\n".join([*out, "</g>", "</svg>", ""])


def _text(run: Run, y: float) -> str:
    text = run.text[: COLUMNS - run.column]
    weight = ' font-weight="bold"' if run.bold else ""
    # The length is given, so that a font of another width does not disturb the columns.
    return (
        f'<text x="{MARGIN + run.column * CELL:.1f}" y="{y:.1f}" fill="{run.colour}"{weight} '
        f'textLength="{len(text) * CELL:.1f}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
    )


def main(names: list[str]) -> None:
    """Start the mesh, draw the pictures, stop it."""
    mesh = subprocess.Popen([BIN / "ebbtide", "demo", "--no-agent"], stderr=subprocess.PIPE, text=True)
    try:
        assert mesh.stderr is not None
        said = mesh.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", said)
        if url is None:
            raise SystemExit(f"cannot draw: the demo mesh did not start: {said}")
        environment = {**os.environ, "URL": url[0], "LINKERD_PROMETHEUS_URL": url[0], "TERM": "xterm-256color"}
        environment["PATH"] = f"{BIN}:{environment['PATH']}"
        environment.pop("NO_COLOR", None)
        for name in names or PICTURES:
            text = in_terminal(["/bin/sh", "-c", PICTURES[name]], environment)
            (HERE / f"{name}.svg").write_text(drawn(PICTURES[name], text, SHOWN_ROWS.get(name, ROWS)), encoding="utf-8")
    finally:
        mesh.terminate()
        mesh.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
