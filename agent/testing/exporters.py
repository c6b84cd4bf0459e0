"""What an exporter promises: samples that add up through encode, join, seal and cut, and answers that the outbox knows.

Strategy. The outbox holds sealed bytes and trusts the counts beside them; every law here is one that it relies on. With
``read`` (an unsealed body into its points, in order) the laws are about the points themselves; without it, about counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from agent.batch import Batch
from agent.plugin import ClosedOutput, Partly, Payload, Rejected, Retry, TooLarge
from agent.testing.batches import TIME, batches, mesh
from agent.testing.candidate import Candidate, Nonconformance, demand
from agent.testing.meeting import PATIENCE, PROMPT, met

LASTS = 0.3
"""Seconds after which a send to a silent peer is cancelled."""
_ANSWERS = (Retry, Rejected, TooLarge, Partly, ClosedOutput)
_SIZES = (1, 40, 100, 250, 1000)


def accounts_for_every_sample(candidate: Candidate) -> None:
    """Every row of a batch is in a payload, or dropped for a reason that is counted."""
    for name, batch in _given().items():
        exporter = candidate.made()
        payloads = _encoded(candidate, exporter, name, batch)
        inside, dropped = sum(p.samples for p in payloads), exporter.counts.dropped.total()
        demand(
            inside + dropped == len(batch),
            f"{candidate.name} has {inside} samples in payloads and {dropped} in counts.dropped, of the {len(batch)} rows "
            f"of the batch {name!r}; the rest would be booked as `bug`",
        )
        for payload in payloads:
            demand(0 <= payload.points <= payload.samples, f"{candidate.name} makes {payload.points} points of {payload.samples} samples (batch {name!r})")  # fmt: skip
            demand(
                payload.body, f"{candidate.name} makes an empty body of the batch {name!r}; yield no payload instead"
            )
            if candidate.read is not None:
                points = len(candidate.read(payload.body))
                demand(points == payload.points, f"{candidate.name} counts {payload.points} points where there are {points} (batch {name!r})")  # fmt: skip


def encodes_the_same_again(candidate: Candidate) -> None:
    """Encoding is a function of the batch: remembered or not, the bytes are the same, and the batch is left alone."""
    exporter = candidate.made()
    for name, batch in _given().items():
        values = batch.values.tobytes()
        cold = _encoded(candidate, candidate.made(), name, batch)
        steady = [_encoded(candidate, exporter, name, batch) for _ in range(2)][-1]
        demand(cold == steady, f"{candidate.name} encodes the batch {name!r} otherwise when it has seen it before")
        demand(values == batch.values.tobytes(), f"{candidate.name} changes the batch {name!r}; copy its columns first")


def joins_in_order(candidate: Candidate) -> None:
    """A joined body holds the points of its parts, in their order."""
    exporter = candidate.made()
    payloads = [
        p for time in (TIME, TIME + 10**9, TIME + 2 * 10**9) for p in _encoded(candidate, exporter, "mesh", mesh(time))
    ]
    if not payloads:
        return
    joined = _tried(candidate, "join", lambda: exporter.join([payload.body for payload in payloads]))
    demand(isinstance(joined, bytes), f"{candidate.name}.join returns {type(joined).__name__}, not bytes")
    if candidate.read is not None:
        parts = [point for payload in payloads for point in candidate.read(payload.body)]
        demand(_read(candidate, joined) == parts, f"{candidate.name}.join loses, doubles or reorders points")


def unseals_what_it_sealed(candidate: Candidate) -> None:
    """``unseal`` undoes ``seal``, or says that it cannot; then ``send`` must never raise TooLarge."""
    exporter = candidate.made()
    for name, batch in _given().items():
        for payload in _encoded(candidate, exporter, name, batch):
            sealed = _tried(candidate, "seal", partial(exporter.seal, payload.body))
            demand(isinstance(sealed, bytes), f"{candidate.name}.seal returns {type(sealed).__name__}, not bytes")
            try:
                again = exporter.unseal(sealed)
            except ValueError as error:
                demand(str(error).startswith("cannot"), f"{candidate.name}.unseal fails on what seal made ({error})")
                return
            same = again == payload.body or (candidate.read is not None and _read(candidate, again) == _read(candidate, payload.body))  # fmt: skip
            demand(same, f"{candidate.name}.unseal(seal(body)) is not the body of the batch {name!r}")


def cuts_without_loss(candidate: Candidate) -> None:
    """Pieces are small enough or cannot be cut further; their counts add up; their order is that of the whole."""
    exporter = candidate.made()
    for name, batch in _given().items():
        for payload in _encoded(candidate, exporter, name, batch):
            for size in sorted({*_SIZES, max(len(payload.body) // 2, 1), len(payload.body)}):
                _check_pieces(candidate, exporter, name, payload, size)


def _check_pieces(candidate: Candidate, exporter: Any, name: str, payload: Payload, size: int) -> None:
    pieces: Sequence[Payload] = _tried(candidate, "cut", lambda: list(exporter.cut(payload, size)))
    where = f"{candidate.name}.cut of the batch {name!r} at {size} bytes"
    for what in ("samples", "points"):
        total, whole = sum(getattr(piece, what) for piece in pieces), getattr(payload, what)
        demand(total == whole, f"{where} makes {total} {what} of {whole}")
        demand(min(getattr(piece, what) for piece in pieces) >= 0, f"{where} makes a piece with fewer than no {what}")
    for piece in pieces:
        if len(piece.body) > size:
            again = len(exporter.cut(piece, size))
            demand(again == 1, f"{where} leaves a piece of {len(piece.body)} bytes that can be cut into {again}")
    if candidate.read is not None:
        points = [point for piece in pieces for point in _read(candidate, piece.body)]
        demand(points == _read(candidate, payload.body), f"{where} loses, doubles or reorders points")


async def sends_to_a_peer_that_is_well(candidate: Candidate) -> None:
    """A request that the destination takes raises nothing, and a second one goes the same way."""

    async def body(options: Any) -> None:
        async with candidate.made(options) as exporter:
            for _ in range(2):
                answer = await _sent(candidate, exporter)
                demand(answer is None, f"{candidate.name}.send raises {answer!r} though its peer is well")

    await met(candidate, "well", body)


async def answers_a_failure_by_name(candidate: Candidate) -> None:
    """A request that is not taken raises Retry, Rejected, TooLarge, Partly or ClosedOutput, with the reason."""

    async def body(options: Any) -> None:
        async with candidate.made(options) as exporter:
            answer = await _sent(candidate, exporter)
            demand(answer is not None, f"{candidate.name}.send returns though its peer fails: the samples would be lost and counted as sent")  # fmt: skip
            demand(str(answer).strip(), f"{candidate.name}.send raises {type(answer).__name__} without a reason; say it in one sentence")  # fmt: skip

    await met(candidate, "failing", body)


async def gives_up_a_silent_peer(candidate: Candidate) -> None:
    """A send that waits for an answer ends soon after it is cancelled."""

    async def body(options: Any) -> None:
        async with candidate.made(options) as exporter:
            with trio.move_on_after(LASTS) as scope:
                await _sent(candidate, exporter)
            late = trio.current_time() - scope.deadline
        demand(late <= PROMPT, f"{candidate.name}.send ends {late:.1f} s after it was cancelled; do not shield it, nor wait for a thread")  # fmt: skip

    await met(candidate, "silent", body)


async def closes_twice(candidate: Candidate) -> None:
    """``aclose`` may be called before anything was sent, and again."""
    exporter = candidate.made()
    try:
        for _ in range(2):
            with trio.fail_after(PATIENCE):
                await exporter.aclose()
    except Exception as error:
        raise Nonconformance(f"{candidate.name}.aclose raises {type(error).__name__}: {error}; let it be called at any time") from error  # fmt: skip


def promises_of(candidate: Candidate) -> list[Callable[[Candidate], Any]]:
    """Return what can be tried: with a peer, sending too."""
    found: list[Callable[[Candidate], Any]] = [
        accounts_for_every_sample,
        encodes_the_same_again,
        joins_in_order,
        unseals_what_it_sealed,
        cuts_without_loss,
        closes_twice,
    ]
    if candidate.peer is not None:
        found += [sends_to_a_peer_that_is_well, answers_a_failure_by_name, gives_up_a_silent_peer]
    return found


def _given() -> dict[str, Batch]:
    return batches()


def _read(candidate: Candidate, body: bytes) -> list[object]:
    assert candidate.read is not None
    return list(candidate.read(body))


def _tried(candidate: Candidate, name: str, does: Callable[[], Any]) -> Any:
    try:
        return does()
    except Exception as error:
        raise Nonconformance(f"{candidate.name}.{name} raises {type(error).__name__}: {error}") from error


def _encoded(candidate: Candidate, exporter: Any, name: str, batch: Batch) -> list[Payload]:
    payloads: list[Payload] = _tried(candidate, f"encode (batch {name!r})", lambda: list(exporter.encode(batch)))
    for payload in payloads:
        good = isinstance(payload, Payload) and isinstance(payload.body, bytes) and isinstance(payload.key, bytes)
        demand(good, f"{candidate.name}.encode yields {type(payload).__name__}; yield ebbtide.Payload with bytes")
    return payloads


async def _sent(candidate: Candidate, exporter: Any) -> Exception | None:
    """Send what a poll of a small mesh makes; return what the exporter answered by, of those that are allowed."""
    payloads = _encoded(candidate, exporter, "mesh", mesh())
    try:
        with trio.fail_after(PATIENCE):
            for payload in payloads:
                await exporter.send(replace(payload, body=exporter.seal(payload.body)))
    except _ANSWERS as answer:
        return answer
    except trio.TooSlowError as error:
        raise Nonconformance(
            f"{candidate.name}.send has not ended after {PATIENCE:g} s; set a deadline around it"
        ) from error
    except Exception as error:
        raise Nonconformance(
            f"{candidate.name}.send raises {type(error).__name__}: {error}; the agent would call it a bug: map it to Retry, "
            f"Rejected, TooLarge, Partly or ClosedOutput"
        ) from error
    return None
