"""The cost sheet: ``python -m bench`` measures, prints and writes ``bench/COSTS.md``.

``python -m bench remote_write proxies`` measures these parts alone and leaves the other sections of the sheet as they are.
Each part is measured in a process of its own, as ``python -m bench.remote_write`` does it, which only prints.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

SHEET = Path(__file__).parent / "COSTS.md"

_HEAD = """\
# What a sample costs

Written by `make bench`; `make bench PARTS="costs proxies"` measures these sections alone. ns of CPU per sample on one core
where nothing else is said, medians over polls; lines of 490 bytes, 31 samples a route (`bench/pages.py`), a sample of a
histogram counted as one: 28 of the 31. Machines differ and are noisy: compare columns with each other, and versions side by
side.
"""

SECTIONS: Mapping[str, str] = {
    "costs": "A federated page",
    "formats": "Pages by format",
    "query": "By the query API",
    "remote_write": "By remote write",
    "proxies": "A thousand proxies",
    "discovery": "Discovery of pods",
    "shaping": "Processors by themselves",
    "memory": "Memory",
    "startup": "Start and idle memory",
    "kafka": "To Kafka",
}
"""The sheet's sections in order: the module that measures, and the heading."""

_HEADING = "\n## "


def sections_of(sheet: str) -> dict[str, str]:
    """Return a sheet's sections: heading -> text."""
    parts = (section.partition("\n") for section in sheet.split(_HEADING)[1:])
    return {heading: text.strip() for heading, _, text in parts}


def sheet_of(sections: Mapping[str, str]) -> str:
    """Return the sheet of these sections, in their order; what has another heading than ours is left out."""
    texts = (f"{_HEADING}{heading}\n\n{sections[heading]}\n" for heading in SECTIONS.values() if heading in sections)
    return "".join((_HEAD, *texts))


def measured(part: str) -> str:
    """Measure one part; return its text."""
    done = subprocess.run([sys.executable, "-m", f"bench.{part}"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cannot measure {part}: it ended with status {done.returncode}; see above")
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"
    )
    return f"Machine: {machine}.\n\n{done.stdout.strip()}"


def main(parts: Iterable[str]) -> None:
    """Measure these parts; print and write each when it is done."""
    unknown = [part for part in parts if part not in SECTIONS]
    if unknown:
        raise SystemExit(f"cannot measure {', '.join(unknown)}: there is no such part; choose of {', '.join(SECTIONS)}")
    sections = sections_of(SHEET.read_text()) if SHEET.exists() else {}
    for part in parts:
        heading = SECTIONS[part]
        sections[heading] = measured(part)
        print(f"{_HEADING}{heading}\n\n{sections[heading]}", flush=True)
        SHEET.write_text(sheet_of(sections))


if __name__ == "__main__":
    main(sys.argv[1:] or SECTIONS)
