"""The cost sheet: ``python -m bench`` measures, prints and writes ``bench/COSTS.md``."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from bench import costs, formats, kafka, memory, query, shaping, startup

_HEAD = """\
# What a sample costs

Written by `make bench`. ns of CPU per sample on one core, medians over polls; lines of 490 bytes, 31 samples a route
(`bench/pages.py`). Machines differ and are noisy: compare columns with each other, and versions side by side.

- `inflate` gunzip of the answer · `skeleton` lines matched, numbers read · `memory` repeats, torn histograms, start times,
  staleness, tables · `resource` the processor of that name · `template` OTLP bytes · `gzip` of the request.
- A sample of a histogram counts as one: 28 of the 31.
- The second table is of processors by themselves, over the batches of a federated page (`bench/shaping.py`).
"""


def main() -> None:
    """Measure, print, write."""
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"
    )
    text = f"{_HEAD}\nMachine: {machine}.\n\n{costs.main()}\n\n{shaping.main()}\n\n{memory.main()}\n\n"
    text += f"## Pages by format\n\n{formats.main()}\n\n## By the query API\n\n{query.main()}\n\n## Start and idle memory\n\n{startup.main()}\n\n## To Kafka\n\n{kafka.main()}\n"
    print(text)
    (Path(__file__).parent / "COSTS.md").write_text(text)


if __name__ == "__main__":
    main()
