"""The built-in table of Linkerd's metrics: kinds, units and help as the real pages declare them (``linkerd.prom``)."""

from __future__ import annotations

from pathlib import Path

from receivers.exposition import Metadata, apply_comment, lines_of
from receivers.text import parse_comment

_FILE = Path(__file__).with_name("linkerd.prom")


def load_table() -> dict[str, Metadata]:
    """Return what is known of each family, by the name on its TYPE line."""
    table: dict[str, Metadata] = {}
    for line in lines_of(_FILE.read_bytes()):
        apply_comment(table, parse_comment(line), line)
    return table
