"""``python -m tests.compliance`` runs the marked tests and writes the page; with ``--check`` it only compares."""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys

from tests.compliance.table import FOLDERS, PAGE, ROOT, Gatherer, gather, missing, page


def main() -> int:
    """Return 0 if every rule has its tests, they pass, and the page is written (or in step)."""
    parser = argparse.ArgumentParser(prog="python -m tests.compliance", description=__doc__)
    parser.add_argument("--check", action="store_true", help="run nothing, write nothing: compare the page")
    check = parser.parse_args().check
    gatherer = gather()
    mistakes = [*gatherer.mistakes, *missing(gatherer.found)]
    if mistakes:
        print(*mistakes, sep="\n", file=sys.stderr)
        return 1
    return _compare(gatherer) if check else _run_and_write(gatherer)


def _compare(gatherer: Gatherer) -> int:
    there = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    made = page(gatherer.found)
    if there == made:
        return 0
    print(f"{PAGE.relative_to(ROOT)} is out of step; run: make compliance", file=sys.stderr)
    sys.stderr.writelines(difflib.unified_diff(there.splitlines(True), made.splitlines(True), "there", "made", n=0))
    return 1


def _run_and_write(gatherer: Gatherer) -> int:
    folders = [str(ROOT / folder) for folder in FOLDERS]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "otlp", *folders])
    if done.returncode:
        print("the page is not written, because tests fail", file=sys.stderr)
        return 1
    PAGE.write_text(page(gatherer.found), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
