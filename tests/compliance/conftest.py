"""A destination by each protocol, on a virtual clock that leaves real sockets their time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tests.compliance.destination import Destination
from tests.compliance.rules import PROTOCOLS
from tests.exporters.conftest import batch as points_of_all_kinds

batch = points_of_all_kinds


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    """Each protocol in turn; a test for some of them is parametrized by ``protocol`` itself."""
    name: str = request.param
    return name


@pytest.fixture
async def destination(protocol: str, nursery: trio.Nursery) -> AsyncIterator[Destination]:
    """A scripted destination that speaks ``protocol``."""
    made = Destination(protocol)
    await made.open(nursery)
    yield made
    made.close()


@pytest.fixture
def clock(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """A virtual clock. It jumps only after sockets on loopback, and grpcio's threads, had real time to answer."""
    autojump_clock.autojump_threshold = 0.05
    return autojump_clock
