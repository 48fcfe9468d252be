"""What comes in over a channel, without one: runs with their seals for a real inbound table, and a copy held up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from common.core.clock import Clock
from common.core.ids import Epoch, RequestId, TransferId, WorkerId, WorkerRef
from common.kv.digest import DIGEST_BYTES, DigestKey, digest_pages
from common.kv.seal import Seal
from common.kv.staging import StagingPool
from common.transfer.counters import TransferCounters
from common.transfer.expectation import InboundTransfer
from common.transfer.inbound import InboundTransfers
from common.transfer.limits import TransferLimits
from common.transfer.messages import Finale, Offer, OutcomeState, PageRun, Pair, TransferRef
from common.transfer.offload import Result
from common.worker.landing import Lander
from tests.engine.rig import LAYOUT

ME = WorkerRef(WorkerId("d"), Epoch(2), "d:1")
THEM = WorkerRef(WorkerId("p"), Epoch(1), "p:1")
PAIR = Pair(sender=THEM, receiver=ME, nonce=1, channel="loopback")
KEY = DigestKey(bytes(range(32)))
POISON = 0xEE


class HeldOffload:
    """Every copy waits for leave to end, after it was made."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.may_end = asyncio.Semaphore(0)

    async def run(self, function: Callable[[], Result]) -> Result:
        result = function()
        self.begun.release()
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(self.may_end.acquire())), 10.0)
        return result

    async def end(self) -> None:
        return


class Wire:
    """An inbound table, and buffers for what it is handed."""

    def __init__(self, clock: Clock, *, num_buffers: int, buffer_pages: int) -> None:
        self.counters = TransferCounters()
        self.inbound = InboundTransfers(
            ME, max_run_bytes=1 << 20, limits=TransferLimits(), counters=self.counters, clock=clock
        )
        self.staging = StagingPool(num_buffers, buffer_pages * LAYOUT.page_bytes)

    def ended(self, state: OutcomeState) -> int:
        """Transfers that have ended so."""
        return self.counters.of(PAIR.channel).ended[state]

    def arrive(
        self,
        transfer: TransferId,
        request: RequestId,
        run: PageRun,
        content: bytes,
        *,
        finale: Finale | None = None,
        flipped: int | None = None,
    ) -> None:
        """A run, straight from the wire. `flipped`: the page of it that is not what was sent."""
        taken = self._accept(transfer, request, run, finale)
        staging = self.staging.acquire_nowait()
        assert staging is not None
        data = memoryview(staging.view)[: len(content)]  # type: ignore[arg-type]  # of the host's memory
        data[:] = content
        digests = digest_pages(data, LAYOUT.page_bytes, KEY, first_index=run.first_page)
        if flipped is not None:
            data[flipped * LAYOUT.page_bytes] = POISON
        seal = Seal(key=KEY, first_index=run.first_page, digests=b"".join(digests))
        if not self.inbound.hand_over(taken, run, staging, len(content), seal):
            staging.release()

    def _accept(self, transfer: TransferId, request: RequestId, run: PageRun, finale: Finale | None) -> InboundTransfer:
        ref = TransferRef(transfer=transfer, request=request, sender_epoch=THEM.epoch, receiver_epoch=ME.epoch)
        offer = Offer(
            pair=PAIR,
            transfer=ref,
            frame=run.first_page,
            run=run,
            num_bytes=run.num_pages * LAYOUT.page_bytes,
            digests=bytes(DIGEST_BYTES * run.num_pages),
            finale=finale,
        )
        taken = self.inbound.claim(offer)
        self.inbound.begin(taken, offer)
        return taken

    def check_nothing_lent(self) -> None:
        assert self.inbound.num_lent == 0
        assert self.staging.num_free == self.staging.count


@asynccontextmanager
async def landing(lander: Lander) -> AsyncIterator[None]:
    task = asyncio.create_task(lander.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=10.0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not condition():
            await asyncio.sleep(0)
