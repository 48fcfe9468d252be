"""Page bytes on their way from where they were received into promised pages, verified as they land, beside the steps.

    queued --permit--> a piece is copied, and its digests are made --they fit--> its desk hears: PagesLanded
       |  '--revoked--> DROPPED                 |--they do not--> CORRUPT: the attempt fails, its desk hears nothing
       '--the worker leaves--> DROPPED          '--revoked meanwhile--> DROPPED, and the pages go

So bytes may be in a page before they are known to be what was sent. Nobody reads them: promised pages are nobody's,
with a writer in the pool; a promise is kept once every piece fits and the finale came, which waits for all of them; and
what a corrupt piece was written to is written over by the next attempt, or goes back as every page does, to be written
before it is read. That the pair breaks, or its sender dies, harms no run that is here.

A run is copied in pieces on the offload thread, under the permit of its promise. Steps neither wait for a copy nor make
one: the desk that made the permit only hears which pages have landed. Runs land one at a time and in order of arrival,
so bytes of an older attempt are never written after those of a newer one.

A run that lies in the memory of the GPU is landed in one piece and without a rest: its copy takes no core of the steps,
and shares the memory's bandwidth with them for as long as one more read of those bytes would.
"""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Protocol, assert_never

from common.core.clock import Clock
from common.core.errors import TransferFailed
from common.engine.loop import Turns
from common.kv.span import DeviceSpan
from common.kv.storage import PageStorage
from common.transfer.expectation import Arrival
from common.transfer.inbound import InboundTransfers
from common.transfer.messages import PageRun
from common.transfer.offload import Offload
from common.transfer.plan import split
from common.worker.pace import plan_rest_s
from common.worker.permit import PagesLanded, Permit


class Landing(StrEnum):
    """How a piece ended."""

    LANDED = "landed"
    CORRUPT = "corrupt"
    DROPPED = "dropped"


class LandingDesk(Protocol):
    """Who made a permit, and is told what becomes of it: on the step loop."""

    def landed(self, landed: PagesLanded) -> None:
        """Verified bytes are in their pages."""
        ...

    def left(self, permit: Permit) -> None:
        """Nobody writes under this permit any more, which was revoked meanwhile."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    arrival: Arrival
    permit: Permit
    desk: LandingDesk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copied:
    """What the offload thread tells of a piece."""

    seconds: float
    is_whole: bool


class Lander:
    """Writer: the event loop. Its queue is bounded by what channels lend and staging holds: an arrival holds some.

    `piece_bytes`: the most that is copied without a pause while a batch runs.
    """

    def __init__(
        self,
        *,
        turns: Turns[Any],
        inbound: InboundTransfers,
        storage: PageStorage,
        offload: Offload,
        piece_bytes: int,
        clock: Clock,
    ) -> None:
        self._turns = turns
        self._inbound = inbound
        self._storage = storage
        self._offload = offload
        self._piece_bytes = piece_bytes
        self._clock = clock
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._rested_at = 0.0

    def __len__(self) -> int:
        return self._queue.qsize()

    def add(self, arrival: Arrival, permit: Permit, desk: LandingDesk) -> None:
        self._queue.put_nowait(_Waiting(arrival=arrival, permit=permit, desk=desk))

    async def run(self) -> None:
        """Lands whatever comes, until it is cancelled; what is left then goes back unused."""
        try:
            while True:
                await self._land(await self._queue.get())  # bounded: whoever started this cancels it
        finally:
            while not self._queue.empty():
                self._inbound.dropped(self._queue.get_nowait().arrival)

    async def _land(self, waiting: _Waiting) -> None:
        """The arrival goes back once, whatever happens, and only when nobody reads it any more."""
        arrival, how, trouble = waiting.arrival, Landing.DROPPED, None
        try:
            for piece in self._pieces(arrival):
                how = Landing.DROPPED  # until this one has landed as well
                how = await self._land_piece(waiting, piece)
                if how is not Landing.LANDED:
                    return
        except TransferFailed as error:
            trouble = error
        finally:
            match how:
                case Landing.LANDED:
                    self._inbound.landed(arrival)
                case Landing.CORRUPT:
                    self._inbound.corrupt(arrival)
                case Landing.DROPPED:
                    self._inbound.dropped(arrival, trouble)
                case _:
                    assert_never(how)

    def _pieces(self, arrival: Arrival) -> tuple[PageRun, ...]:
        if isinstance(arrival.data, DeviceSpan):
            return (arrival.run,)
        size = self._storage.layout.part_bytes(arrival.run.layers)
        return split(arrival.run, max(1, self._piece_bytes // size))

    async def _land_piece(self, waiting: _Waiting, piece: PageRun) -> Landing:
        """DROPPED, and nothing is copied or counted, when the promise has ended or moved on to a newer attempt. Raises
        TransferFailed where a GPU has no memory for digests."""
        arrival, permit, desk = waiting.arrival, waiting.permit, waiting.desk
        await self._rest()
        if not permit.enter():
            return Landing.DROPPED
        try:
            copied = await self._offload.run(lambda: self._copy(arrival, piece, permit))
        finally:
            is_wanted = permit.leave()
            if not is_wanted:
                self._turns.post(partial(desk.left, permit))
        is_shared = self._turns.look.load.running_sequences > 0 and isinstance(arrival.data, memoryview)
        self._rested_at = self._clock.monotonic() + plan_rest_s(copy_s=copied.seconds, is_stepping=is_shared)
        if is_wanted and copied.is_whole:
            landed = PagesLanded(
                reservation=permit.reservation,
                attempt=permit.attempt,
                pages=piece,
                whole_run=arrival.run if piece.end == arrival.run.end else None,
            )
            self._turns.post(partial(desk.landed, landed))
            return Landing.LANDED
        return Landing.CORRUPT if is_wanted else Landing.DROPPED

    def _copy(self, arrival: Arrival, piece: PageRun, permit: Permit) -> _Copied:
        """On the offload thread."""
        size = self._storage.layout.part_bytes(piece.layers)
        first = piece.first_page - arrival.run.first_page
        end = first + piece.num_pages
        data, places, is_whole = arrival.data[first * size : end * size], permit.pages_of(piece), True
        began = self._clock.monotonic()
        if arrival.seal is None:
            self._storage.scatter(places, data, piece.layers)
        else:
            is_whole = self._storage.scatter_sealed(places, data, arrival.seal.part(first, end), piece.layers)
        return _Copied(seconds=self._clock.monotonic() - began, is_whole=is_whole)

    async def _rest(self) -> None:
        rest_s = self._rested_at - self._clock.monotonic()
        if rest_s > 0:
            await asyncio.sleep(rest_s)
