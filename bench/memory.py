"""Bytes of memory per series, and what a page of 100 MB takes: each in a process of its own, by its resident set."""

from __future__ import annotations

import gzip
import multiprocessing
import queue
import resource
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import cramjam

from agent.heap import prepare, settle
from bench.pages import START_MS, Mesh
from bench.query import Answers
from bench.remote_write import Form, FormV1, FormV2, Prometheus

_SIZES = (20_000, 60_000)
_POLLS = 4
_LARGE = 204_000  # samples of a page of 100 MB

_Load = tuple[list[tuple[bytes, Any]], int, int]
"""Bodies and when they come, so many of which bring new series, and how many series there are."""


def resident(process: int | str = "self") -> int:
    """Bytes of a process's resident set."""
    with open(f"/proc/{process}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _held(part: str, items: list[tuple[bytes, Any]], settled: int, version: tuple[int, ...], results: Any) -> None:
    """The resident set after a few polls by a part's chain, everything that polls hold for a while included."""
    module = import_module(f"bench.{part}")
    prepare()
    chain = module.Chain(*version)
    for number, item in enumerate(items):
        chain.poll(*item, module.Costs(1, module.STAGES))
        if number < settled:
            settle()  # as the receivers do after many new series
    results.put(resident())


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


def _federated(samples: int) -> _Load:
    mesh = Mesh(samples)
    pages = [gzip.compress(mesh.page(), 1) for _ in range(_POLLS)]
    return [(page, (START_MS + 5000 * (poll + 1)) * 10**6) for poll, page in enumerate(pages)], 1, mesh.samples


def _answered(samples: int) -> _Load:
    answers = Answers(samples, 3)
    windows = [answers.next() for _ in range(_POLLS)]
    return [(gzip.compress(body, 1), window) for body, window in windows], 1, answers.samples // 3


def _written(form: type[Form], samples: int) -> _Load:
    source = Prometheus(samples, 2_000, 1)
    bodies = form(source.series)
    sent = list(source.requests(_POLLS))
    requests = [(bytes(cramjam.snappy.compress_raw(bodies.body(one))), ms * 10**6) for ms, one in sent]
    return requests, len(requests) // 2, len(source.series)


def _per_series(part: str, load: Callable[[int], _Load], *version: int) -> str:
    """Measure what each of many series takes beyond those of few; return a row."""
    found = []
    for size in _SIZES:
        items, settled, series = load(size)
        found.append((alone(_held, part, items, settled, version), series))
    (few, less), (many, more) = found
    return f"{(many - few) / (more - less):,.0f}"


def main() -> str:
    """Measure; returns Markdown."""
    rows = {
        "federate": _per_series("costs", _federated),
        "query": _per_series("query", _answered),
        "remote_write, 1.0": _per_series("remote_write", partial(_written, FormV1), 1),
        "remote_write, 2.0": _per_series("remote_write", partial(_written, FormV2), 2),
    }
    mesh = Mesh(_LARGE)
    page = mesh.page()
    seconds, peak, before = alone(_large_page, [gzip.compress(page, 1)], mesh.samples)
    few, many = _SIZES
    table = "".join(f"| {name} | {size} |\n" for name, size in rows.items())
    return (
        f"Resident set with {many:,} series less that with {few:,}, for each of them:\n\n"
        f"| receiver | bytes a series |\n| --- | --- |\n{table}\n"
        f"- A page of {len(page) / 1e6:,.0f} MB, {mesh.samples:,} series never seen before: {seconds:.1f} s, "
        f"peak resident set {peak / 1e6:,.0f} MB (of which {before / 1e6:,.0f} MB before it came)."
    )


if __name__ == "__main__":
    print(main())
