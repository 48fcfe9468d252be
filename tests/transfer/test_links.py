"""The table of sending ends: who waits for an opening, and who does not any more."""

import asyncio

import pytest

from common.core.clock import SystemClock
from common.core.entropy import SeededEntropy
from common.core.errors import Unavailable
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.kv.scheme import scheme_fingerprint
from common.transfer.counters import TransferCounters
from common.transfer.limits import TransferLimits
from common.transfer.links import LinkTable
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Meet, Met, Pair
from common.transfer.opening import Opener
from common.transfer.scope import TaskScope
from tests.engine.rig import LAYOUT

ME = WorkerRef(WorkerId("p"), Epoch(1), "p:1")
PEER = WorkerRef(WorkerId("d"), Epoch(2), "d:1")


class AbsentPeer:
    """Answers a meeting when the test says so, with bad news."""

    def __init__(self) -> None:
        self.num_meetings = 0
        self.answers = asyncio.Event()

    def at(self, worker: WorkerRef) -> "AbsentPeer":
        return self

    async def meet(self, pair: Pair, meet: Meet, *, timeout_s: float) -> Met:
        self.num_meetings += 1
        await self.answers.wait()
        raise Unavailable(message="nobody is there")


async def test_an_opening_that_nobody_waited_for_does_not_fail_the_next() -> None:
    counters, peers = TransferCounters(), AbsentPeer()
    async with TaskScope(counters) as scope:
        clock, limits = SystemClock(), TransferLimits()
        opener = Opener(
            ME,
            meet=Meet(layout=LAYOUT, scheme=scheme_fingerprint()),
            peers=peers,  # type: ignore[arg-type]
            channels=ChannelMenu(type("Factory", (), {"name": "none", "max_pairs": None})()),
            limits=limits,
            counters=counters,
            scope=scope,
            clock=clock,
            entropy=SeededEntropy(1),
        )
        table = LinkTable(opener, limits=limits, counters=counters, scope=scope, clock=clock)
        given_up = asyncio.create_task(table.hold(PEER))
        await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.wait({given_up})
        peers.answers.set()
        await asyncio.sleep(0.01)
        with pytest.raises(Unavailable):
            await table.hold(PEER)
        assert peers.num_meetings == 2, "it asked for itself"
