"""``python -m tests.fuzz SECONDS [--seed N] [--target NAME]``: mutates inputs for so long, all targets alike."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz import answers, pages
from tests.fuzz.run import Target, fuzz


def every_target() -> list[Target]:
    """All parsers."""
    return [*pages.targets(), *answers.targets()]


def main() -> int:
    """Return 0 if nothing was found. Findings are printed, and their inputs written to files."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("seconds", type=float, help="how long, all targets together")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="begin as another run did")
    parser.add_argument("--target", action="append", help="this target alone; may be given again")
    asked = parser.parse_args()
    chosen = [one for one in every_target() if not asked.target or one.name in asked.target]
    if not chosen:
        parser.error(f"no such target; there are: {', '.join(one.name for one in every_target())}")
    print(f"seed {asked.seed}", file=sys.stderr)
    found = 0
    for target in chosen:
        count, findings = fuzz(target, asked.seed, seconds=asked.seconds / len(chosen), most=10**9)
        print(f"{target.name}: {count} inputs, {len(findings)} findings")
        for finding in findings:
            found += 1
            folder = Path(tempfile.mkdtemp(prefix="ebbtide-fuzz-"))
            (folder / "input").write_bytes(finding.data)
            print(f"  {finding}\n  the input is {folder / 'input'}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
