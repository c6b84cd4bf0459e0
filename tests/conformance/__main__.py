"""``python -m tests.conformance`` runs all suites and writes the page; the vectors lie at ``EBBTIDE_VECTORS`` or beside us."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.conformance.page import PAGE, ROOT, page
from tests.conformance.suites import SUITES, outcome


def main() -> int:
    """Return 0 if every case holds or is listed, and the page is written."""
    vectors = Path(os.environ.get("EBBTIDE_VECTORS") or ROOT.parent / "shared" / "vectors")
    if not vectors.is_dir():
        print(f"cannot run: no vectors in {vectors}; set EBBTIDE_VECTORS to their folder", file=sys.stderr)
        return 1
    surprises = [f"{name}: {case}" for name in SUITES for case in outcome(name, vectors).surprises(name)]
    if surprises:
        print("differ and are not listed, or the other way round:", *surprises, sep="\n", file=sys.stderr)
        return 1
    PAGE.write_text(page(vectors), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
