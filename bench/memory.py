"""Bytes of memory per series, and what a page of 100 MB takes: each in a process of its own, by its resident set."""

from __future__ import annotations

import gzip
import multiprocessing
import queue
import resource
import time
from collections.abc import Callable
from typing import Any

from agent.heap import prepare, settle
from bench.pages import START_MS, Mesh

_SIZES = (20_000, 60_000)
_LARGE = 204_000  # samples of a page of 100 MB


def resident() -> int:
    """Bytes of this process's resident set."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _held(bodies: list[bytes], samples: int, results: Any) -> None:
    """The resident set after a few polls, everything that polls hold for a while included."""
    from bench.costs import Chain, Costs

    prepare()
    chain = Chain()
    for poll, body in enumerate(bodies):
        chain.poll(body, (START_MS + 5000 * (poll + 1)) * 10**6, Costs(samples))
        if not poll:
            settle()  # as the receiver does after a page of new series
    results.put((samples, resident()))


def _large_page(bodies: list[bytes], samples: int, results: Any) -> None:
    from bench.costs import Chain, Costs

    prepare()
    chain, before = Chain(), resident()
    began = time.perf_counter()
    chain.poll(bodies[0], START_MS * 10**6, Costs(samples))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    results.put((seconds, peak, before))


def alone(work: Callable[..., None], *args: Any) -> Any:
    """Do the work in a process that has made no pages itself; return the one thing that it puts into ``results``."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=work, args=(*args, results))
    process.start()
    while True:
        try:
            found = results.get(timeout=1)
        except queue.Empty:
            if process.is_alive():
                continue
            raise SystemExit(f"cannot measure: {work.__name__} ended with {process.exitcode}; see above") from None
        process.join()
        return found


def _bodies(mesh: Mesh, polls: int) -> list[bytes]:
    return [gzip.compress(mesh.page(), 1) for _ in range(polls)]


def main() -> str:
    """Measure; returns Markdown."""
    meshes = [Mesh(samples) for samples in _SIZES]
    (small, with_small), (large, with_large) = (alone(_held, _bodies(mesh, 4), mesh.samples) for mesh in meshes)
    mesh = Mesh(_LARGE)
    page = mesh.page()
    seconds, peak, before = alone(_large_page, [gzip.compress(page, 1)], mesh.samples)
    return (
        f"- Memory per series: {(with_large - with_small) / (large - small):,.0f} bytes "
        f"(resident set with {large:,} series less that with {small:,}).\n"
        f"- A page of {len(page) / 1e6:,.0f} MB, {mesh.samples:,} series never seen before: {seconds:.1f} s, "
        f"peak resident set {peak / 1e6:,.0f} MB (of which {before / 1e6:,.0f} MB before it came)."
    )


if __name__ == "__main__":
    print(main())
