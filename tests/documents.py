"""The documents and their fenced blocks, as tests/test_docs.py looks at them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: where it begins, the words behind the fence, what it holds."""

    page: Path
    line: int
    info: str
    text: str

    @property
    def language(self) -> str:
        """The first word: what a renderer colours it as."""
        return self.info.partition(" ")[0]

    @property
    def named(self) -> str:
        """The name of the file that it is, by ``file=NAME``; else ""."""
        match = re.search(r"\bfile=(\S+)", self.info)
        return match[1] if match else ""

    @property
    def source(self) -> str:
        """The path of the file of this repository that it quotes, by ``of PATH``; else ""."""
        match = re.search(r"\bof (\S+)$", self.info)
        return match[1] if match else ""

    @property
    def kind(self) -> str:
        """The words behind the fence without the names in them."""
        return re.sub(r"\s*\b(?:file=\S+|of \S+)$", "", self.info)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["text"].splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, match.start()) + 1, match["info"].strip(), body)


EVERY = [block for page in PAGES for block in blocks(page)]
