"""Lanes: pages are gathered where their receiver reads them, sealed as they are gathered, and nobody waits for room.

Whole endpoints over a real ring of shared memory, in one process; pages of a real storage.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from common.core.entropy import SystemEntropy
from common.core.errors import Reason
from common.core.ids import PageId, TransferId
from common.kv.digest import DigestKey
from common.kv.layout import PageLayout
from common.kv.seal import MadeSealing, Sealing
from common.kv.torch_storage import TorchStorage
from common.transfer.channel import Lent
from common.transfer.endpoint import KvEndpoint
from common.transfer.expectation import Arrival, Expectation
from common.transfer.host import read_host
from common.transfer.lane import Lane
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Finale, Outcome, OutcomeState, PageRun
from common.transfer.outbound import OutboundTransfer
from common.transfer.plan import digest_index
from common.transfer.same_host import sending
from common.transfer.same_host.factory import SameHostFactory
from tests.transfer.rig import PAGE, REQUEST, UNHURRIED, Rig, finale, rigged

LAYOUT = PageLayout(num_layers=2, num_kv_heads=2, head_dim=8, page_size=4, dtype="bfloat16")
SIZE, NUM_PAGES, RUN = LAYOUT.page_bytes, 8, 2
SLOTS = 4


@dataclass
class Landing:
    """A sink that lands as decode does: scattered and verified in one pass."""

    end: KvEndpoint
    storage: TorchStorage
    places: list[PageId]
    finales: list[Finale] = field(default_factory=list)
    failures: list[Outcome] = field(default_factory=list)
    held: list[Arrival] | None = None
    """Set: arrivals wait here for `land`."""

    def on_run(self, arrival: Arrival) -> None:
        if self.held is None:
            self.land(arrival)
        else:
            self.held.append(arrival)

    def land(self, arrival: Arrival) -> None:
        assert arrival.seal is not None
        places = self.places[arrival.run.first_page : arrival.run.end]
        if self.storage.scatter_sealed(places, arrival.data, arrival.seal):
            self.end.inbound.landed(arrival)
        else:
            self.end.inbound.corrupt(arrival)

    def on_finale(self, transfer: TransferId, finale: Finale) -> None:
        self.finales.append(finale)

    def on_failed(self, transfer: TransferId, outcome: Outcome) -> None:
        self.failures.append(outcome)


@dataclass
class Scene:
    """A worker with random pages, and one that wants them."""

    rig: Rig
    p: KvEndpoint
    d: KvEndpoint
    here: TorchStorage
    there: TorchStorage
    contents: list[bytes]
    num_promises: int = 0

    def promise(self, *, held: list[Arrival] | None = None) -> tuple[Landing, OutboundTransfer]:
        """Room for all pages, in another order."""
        self.num_promises += 1
        sink = Landing(self.d, self.there, [PageId(page) for page in reversed(range(NUM_PAGES))], held=held)
        transfer = TransferId(reservation=f"res-{self.num_promises}", attempt=1)  # type: ignore[arg-type]
        expectation = Expectation(
            transfer=transfer, request=REQUEST, total_pages=NUM_PAGES, held_pages=0, page_bytes=SIZE, verifies=True
        )
        self.d.inbound.expect(expectation, sink)
        return sink, self.p.start(transfer, REQUEST, self.d.me)

    async def lane(self) -> Lane:
        """Open, with its keys made."""
        async with asyncio.timeout(5.0):
            while (lane := self.p.lanes.to(self.d.me)) is None or lane.key is None:
                await asyncio.sleep(0)
        return lane

    def gather(self, lane: Lane, run: PageRun) -> tuple[Lent, Sealing]:
        """As the step loop does, when a slot is free."""
        room = lane.lend(run.num_pages * SIZE)
        assert room is not None
        assert lane.key is not None
        pages = [PageId(page) for page in range(run.first_page, run.end)]
        sealing = self.here.gather_sealed(pages, room.view, lane.key, first_index=digest_index(run))
        # In the gather's pass, as native code does, or at once behind it.
        return room, MadeSealing(key=sealing.key, digests=sealing.finish())

    async def hand_over(self, lane: Lane, transfer: OutboundTransfer) -> Outcome:
        """Every page through slots, at most two of them lent."""
        for first in range(0, NUM_PAGES, RUN):
            run = PageRun(first_page=first, num_pages=RUN)
            async with asyncio.timeout(5.0):
                while self.p.lanes.num_lent == SLOTS // 2:
                    await asyncio.sleep(0)
            room, sealing = self.gather(lane, run)
            await transfer.ship(run, room.view, sealing)
            room.release()
        await transfer.finish(finale(NUM_PAGES))
        return await transfer.wait_outcome(5.0)

    def landed(self) -> list[bytes]:
        out = bytearray(NUM_PAGES * SIZE)
        self.there.gather([PageId(page) for page in reversed(range(NUM_PAGES))], memoryview(out))
        return [bytes(out[at * SIZE : (at + 1) * SIZE]) for at in range(NUM_PAGES)]


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    host = read_host()
    assert host is not None

    def menu() -> ChannelMenu:
        factory = SameHostFactory(host, num_slots=SLOTS, slot_bytes=RUN * SIZE, entropy=SystemEntropy())
        return ChannelMenu(factory, host=host)

    async with rigged(limits=UNHURRIED) as rig:
        p, d = [await rig.add(name, layout=LAYOUT, channels=menu(), pages=RUN * SIZE // PAGE) for name in ("p", "d")]
        here, there = (TorchStorage(LAYOUT, NUM_PAGES) for _ in range(2))
        contents = [random.Random(page).randbytes(SIZE) for page in range(NUM_PAGES)]
        here.scatter([PageId(page) for page in range(NUM_PAGES)], memoryview(bytearray(b"".join(contents))))
        yield Scene(rig, p, d, here, there, contents)
        assert p.lanes.num_lent == 0


@pytest.fixture
def no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    async def copied(*_: object) -> None:
        pytest.fail("a frame was copied")

    monkeypatch.setattr(sending, "copy_bytes", copied)


@pytest.mark.usefixtures("no_copies")
async def test_pages_move_from_pool_to_pool_over_a_slot_and_nothing_else() -> None:
    async with scene() as here:
        sink, transfer = here.promise()
        await transfer.open()
        outcome = await here.hand_over(await here.lane(), transfer)
        assert outcome.state is OutcomeState.DONE, outcome
        assert here.landed() == here.contents
        assert sink.finales == [finale(NUM_PAGES)]
        assert all(offer.digests for offer in here.rig.offers if offer.run.num_pages), "digests come with their offer"


async def test_there_is_no_lane_before_the_first_link_nor_after_the_last() -> None:
    async with scene() as here:
        assert here.p.lanes.to(here.d.me) is None
        _, transfer = here.promise()
        await transfer.open()
        lane = await here.lane()
        room = lane.lend(SIZE)
        assert room is not None
        await here.p.drop_peer(here.d.me.worker, "it left")
        assert here.p.lanes.to(here.d.me) is None
        assert lane.lend(SIZE) is None
        room.release()
        transfer.abort(Reason.CANCELLED)


async def test_a_lane_to_an_incarnation_that_is_over_is_nobodys() -> None:
    async with scene() as here:
        _, transfer = here.promise()
        await transfer.open()
        await here.lane()
        transfer.abort(Reason.CANCELLED)
        later = await here.rig.restart("d")
        assert here.p.lanes.to(later.me) is None


async def test_a_ring_that_is_full_sends_whoever_gathers_elsewhere_at_once() -> None:
    async with scene() as here:
        held: list[Arrival] = []
        sink, transfer = here.promise(held=held)
        await transfer.open()
        lane = await here.lane()
        rooms = [lane.lend(RUN * SIZE) for _ in range(SLOTS // 2)]
        assert lane.lend(RUN * SIZE) is None
        assert here.p.lanes.num_lent == SLOTS // 2
        for room in rooms:
            assert room is not None
            room.release()
        transfer.abort(Reason.CANCELLED)
        assert sink.finales == []


async def test_bytes_that_change_in_the_slot_are_found_where_they_land_and_nothing_begins() -> None:
    async with scene() as here:
        sink, transfer = here.promise()
        await transfer.open()
        lane, run = await here.lane(), PageRun(first_page=0, num_pages=RUN)
        room, sealing = here.gather(lane, run)
        assert isinstance(room.view, memoryview)
        room.view[SIZE + 3] ^= 8
        await transfer.ship(run, room.view, sealing)
        room.release()
        outcome = await transfer.wait_outcome(2.0)
        assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, Reason.DIGEST_MISMATCH)
        assert [failure.reason for failure in sink.failures] == [Reason.DIGEST_MISMATCH]
        assert sink.finales == []
        assert here.d.snapshot().received.incidents["digest_mismatch"] == 1


async def test_a_slot_that_still_holds_an_older_frame_is_found() -> None:
    """A gather that did not happen: the same pages of another prompt lay there, under the same pair's key."""
    async with scene() as here:
        _, first = here.promise()
        await first.open()
        lane = await here.lane()
        assert (await here.hand_over(lane, first)).state is OutcomeState.DONE
        others = [random.Random(f"other {page}").randbytes(SIZE) for page in range(NUM_PAGES)]
        here.here.scatter([PageId(page) for page in range(NUM_PAGES)], memoryview(bytearray(b"".join(others))))
        _, second = here.promise()
        await second.open()
        run = PageRun(first_page=0, num_pages=RUN)
        room, sealing = here.gather(lane, run)
        assert isinstance(room.view, memoryview)
        room.view[:] = b"".join(here.contents[:RUN])
        await second.ship(run, room.view, sealing)
        room.release()
        assert (await second.wait_outcome(2.0)).reason is Reason.DIGEST_MISMATCH


async def test_what_was_gathered_for_a_link_that_ended_goes_over_the_next_one() -> None:
    """Its slot stays mapped; digests are made again under the new pair's key."""
    async with scene() as here:
        sink, transfer = here.promise()
        await transfer.open()
        lane, old = await here.lane(), here.p._links._links[here.d.me.worker]
        run = PageRun(first_page=0, num_pages=RUN)
        room, sealing = here.gather(lane, run)
        await old.kill("idle for too long")
        await transfer.ship(run, room.view, sealing)
        room.release()
        now = await here.lane()
        assert now is not lane
        assert now.key is not sealing.key
        for first in range(RUN, NUM_PAGES, RUN):
            run = PageRun(first_page=first, num_pages=RUN)
            room, sealing = here.gather(now, run)
            await transfer.ship(run, room.view, sealing)
            room.release()
        await transfer.finish(finale(NUM_PAGES))
        assert (await transfer.wait_outcome(5.0)).state is OutcomeState.DONE
        assert here.landed() == here.contents
        assert sink.finales == [finale(NUM_PAGES)]


async def test_a_sender_that_dies_when_all_is_here_ends_nothing_and_before_that_it_fails() -> None:
    async with scene() as here:
        held: list[Arrival] = []
        sink, transfer = here.promise(held=held)
        await transfer.open()
        lane = await here.lane()
        run = PageRun(first_page=0, num_pages=RUN)
        shipped = [run, *(PageRun(first_page=first, num_pages=RUN) for first in range(RUN, NUM_PAGES, RUN))]
        for each in shipped[:-1]:
            room, sealing = here.gather(lane, each)
            await transfer.ship(each, room.view, sealing)
            room.release()
            await asyncio.sleep(0)
        room, sealing = here.gather(lane, shipped[-1])
        await transfer.finish(finale(NUM_PAGES), shipped[-1], room.view, sealing)
        room.release()
        async with asyncio.timeout(2.0):
            while len(held) < len(shipped):
                await asyncio.sleep(0)
        await here.d.drop_peer(here.p.me.worker, "killed")
        assert sink.failures == []
        assert sink.finales == [], "nothing is verified yet"
        for arrival in held:
            sink.land(arrival)
        assert sink.finales == [finale(NUM_PAGES)]
        assert here.landed() == here.contents


async def test_a_sender_that_dies_amid_a_hand_over_fails_it_and_no_finale_comes() -> None:
    async with scene() as here:
        sink, transfer = here.promise()
        await transfer.open()
        lane, run = await here.lane(), PageRun(first_page=0, num_pages=RUN)
        room, sealing = here.gather(lane, run)
        await transfer.ship(run, room.view, sealing)
        room.release()
        await here.d.drop_peer(here.p.me.worker, "killed")
        assert [failure.reason for failure in sink.failures] == [Reason.CHANNEL_BROKEN]
        assert sink.finales == []
        transfer.abort(Reason.CANCELLED)


async def test_keys_are_expanded_before_anybody_gathers_under_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as here:
        _, transfer = here.promise()
        await transfer.open()
        lane = await here.lane()
        monkeypatch.setattr(DigestKey, "stream", lambda *_: pytest.fail("keys are expanded where pages are gathered"))
        room, _ = here.gather(lane, PageRun(first_page=0, num_pages=RUN))
        room.release()
        transfer.abort(Reason.CANCELLED)
