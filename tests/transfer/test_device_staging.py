"""Hand-overs whose pages stay in the memory of GPUs, which here is the host's: what crosses to it, and what not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from common.core.errors import Reason, TransferFailed
from common.core.ids import RequestId
from common.kv.digest import DigestKey, digest_pages
from common.kv.layout import LayerSpan
from common.kv.span import DeviceSpan, Span
from common.transfer.digester import Digester
from common.transfer.endpoint import KvEndpoint
from common.transfer.fetch import PageSource, Retained
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Outcome, OutcomeState, PageRun
from common.transfer.offload import InlineOffload
from common.transfer.outbound import OutboundTransfer
from tests.kv.host_page_device import HostPageDevice, write_span
from tests.transfer.device_loopback import Card, DeviceLoopback
from tests.transfer.rig import PAGE, REQUEST, Sink, as_bytes, expect, finale, page_bytes, rigged, run_data

pytestmark = pytest.mark.virtual_time

Result = TypeVar("Result")

BUFFER = 4 * PAGE


class Pages:
    """A prompt's pages, in buffers of the sender's GPU."""

    def __init__(self, device: HostPageDevice) -> None:
        self.device = device

    def of(self, run: PageRun) -> DeviceSpan:
        span = self.device.make_buffer(run.num_pages * PAGE)
        write_span(span, bytes(run_data(run)))
        return span


@asynccontextmanager
async def two_workers(
    here: Card | None, there: Card, source: PageSource | None = None
) -> AsyncIterator[tuple[DeviceLoopback, KvEndpoint, KvEndpoint]]:
    """A sender (`here` None: without a GPU) and a receiver, with what carries between them. `source`: what is kept."""
    async with rigged() as rig:
        factory = DeviceLoopback(rig.network)
        p = await rig.add("p", channels=ChannelMenu(factory), dock=here and here.dock, source=source)
        d = await rig.add("d", channels=ChannelMenu(factory), dock=there.dock)
        yield factory, p, d


async def ship(transfer: OutboundTransfer, data_of: Callable[[PageRun], Span], total_pages: int) -> Outcome:
    runs = [PageRun(first_page=first, num_pages=min(2, total_pages - first)) for first in range(0, total_pages, 2)]
    for run in runs[:-1]:
        await transfer.ship(run, data_of(run))
    await transfer.finish(finale(total_pages), runs[-1], data_of(runs[-1]))
    return await transfer.wait_outcome(2.0)


class Landing(Sink):
    """Notes in which memory runs lay."""

    def __init__(self, end: KvEndpoint) -> None:
        super().__init__(end)
        self.kinds: set[type] = set()

    def land(self, arrival: "object") -> None:
        self.kinds.add(type(arrival.data))  # type: ignore[attr-defined]
        super().land(arrival)  # type: ignore[arg-type]


async def test_from_gpu_to_gpu_nothing_crosses_to_the_host() -> None:
    here, there = Card(BUFFER), Card(BUFFER)
    async with two_workers(here, there) as (factory, p, d):
        sink, transfer = expect(d, 5, sink=Landing(d))
        outcome = await ship(p.start(transfer, REQUEST, d.me), Pages(here.device).of, 5)
    assert outcome.state is OutcomeState.DONE
    assert sink.pages == {index: page_bytes(index) for index in range(5)}
    assert isinstance(sink, Landing)
    assert sink.kinds == {DeviceSpan}
    assert (factory.num_device, factory.num_host) == (3, 0)
    assert (here.device.num_copies, there.device.num_copies) == (0, 0)
    assert (here.device.num_digests, there.device.num_digests) == (3, 3)
    assert here.is_idle
    assert there.is_idle


async def test_over_a_channel_of_host_memory_one_host_buffer_per_link_is_used() -> None:
    async with rigged() as rig:
        here = Card(BUFFER)
        p, d = await rig.add("p", dock=here.dock), await rig.add("d")
        for number in range(3):
            sink, transfer = expect(d, 5, name=f"res-{number}", sink=Landing(d))
            outcome = await ship(p.start(transfer, REQUEST, d.me), Pages(here.device).of, 5)
            assert outcome.state is OutcomeState.DONE
            assert sink.pages == {index: page_bytes(index) for index in range(5)}
            assert isinstance(sink, Landing)
            assert sink.kinds == {memoryview}
    assert here.device.num_copies == 9
    assert here.host_buffers == [2 * PAGE], "made once, of the size of a frame"


async def test_a_sender_without_a_gpu_fills_staging_on_one() -> None:
    there = Card(BUFFER)
    async with two_workers(None, there) as (factory, p, d):
        sink, transfer = expect(d, 3, sink=Landing(d))
        outcome = await ship(p.start(transfer, REQUEST, d.me), run_data, 3)
    assert outcome.state is OutcomeState.DONE
    assert sink.pages == {index: page_bytes(index) for index in range(3)}
    assert isinstance(sink, Landing)
    assert sink.kinds == {DeviceSpan}
    assert (factory.num_device, factory.num_host) == (0, 2)
    assert there.is_idle


async def test_a_bit_that_changed_on_the_way_is_found_on_the_gpu() -> None:
    here, there = Card(BUFFER), Card(BUFFER)
    async with two_workers(here, there) as (factory, p, d):
        sink, transfer = expect(d, 2)
        factory.network.faults.flip = 1.0
        run = PageRun(first_page=0, num_pages=2)
        shipped = p.start(transfer, REQUEST, d.me)
        await shipped.finish(finale(2), run, Pages(here.device).of(run))
        outcome = await shipped.wait_outcome(2.0)
        assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, Reason.DIGEST_MISMATCH)
        assert sink.pages == {}
        factory.network.faults.flip = 0.0
        sink, transfer = expect(d, 2, name="res-2")
        outcome = await ship(p.start(transfer, REQUEST, d.me), Pages(here.device).of, 2)
        assert outcome.state is OutcomeState.DONE, "the pair lives"
    assert there.is_idle


async def test_runs_of_some_layers_stay_there_as_well() -> None:
    here, there = Card(BUFFER), Card(BUFFER)
    async with two_workers(here, there) as (_, p, d):
        parts: dict[int, bytes] = {}

        class Parts(Sink):
            def land(self, arrival: "object") -> None:
                assert arrival.run.layers is not None  # type: ignore[attr-defined]
                parts[arrival.run.layers.first] = as_bytes(arrival.data)  # type: ignore[attr-defined]
                self.end.inbound.landed(arrival)  # type: ignore[arg-type]

        _, transfer = expect(d, 2, sink=Parts(d), num_layers=2)
        shipped = p.start(transfer, REQUEST, d.me)
        for layer in range(2):
            span = here.device.make_buffer(PAGE)
            write_span(span, bytes([layer + 1]) * PAGE)
            await shipped.ship(PageRun(first_page=0, num_pages=2, layers=LayerSpan(first=layer, num=1)), span)
        await shipped.finish(finale(2))
        assert (await shipped.wait_outcome(2.0)).state is OutcomeState.DONE
    assert parts == {0: b"\1" * PAGE, 1: b"\2" * PAGE}


class Kept:
    """A PageSource whose pages lie on the GPU."""

    def __init__(self, total_pages: int) -> None:
        self.total_pages = total_pages
        self.kinds: set[type] = set()

    def retained(self, request: RequestId) -> Retained:
        return Retained(num_pages=self.total_pages, finale=finale(self.total_pages), context_digest=b"context")

    async def gather(self, request: RequestId, run: PageRun, out: Span, key: DigestKey | None) -> None:
        self.kinds.add(type(out))
        assert isinstance(out, DeviceSpan)
        write_span(out, bytes(run_data(run)))

    def release(self, request: RequestId) -> None:
        return


async def test_pages_that_are_fetched_leave_from_the_dock() -> None:
    here, there, kept = Card(BUFFER), Card(BUFFER), Kept(7)
    async with two_workers(here, there, source=kept) as (_, p, d):
        sink, transfer = expect(d, 7)
        ticket = p.mint_ticket(REQUEST, num_pages=7, lease_s=5.0)
        assert await d.pull(ticket, transfer, REQUEST, held_pages=0, context_digest=b"context") == 7
        async with asyncio.timeout(2.0):
            while len(sink.pages) < 7:  # the push is the other end's task
                await asyncio.sleep(0.01)
    assert sink.pages == {index: page_bytes(index) for index in range(7)}
    assert kept.kinds == {DeviceSpan}
    assert here.is_idle
    assert here.device.num_copies == 0


async def test_a_probe_measures_the_way_that_pages_take() -> None:
    here, there = Card(BUFFER), Card(BUFFER)
    async with two_workers(here, there) as (factory, p, d):
        report = await p.probe(d.me, 6 * PAGE)
    assert report.num_bytes == 6 * PAGE
    assert (factory.num_device, factory.num_host) == (2, 0)
    assert here.is_idle
    assert there.is_idle


class SlowOffload:
    """Whatever is asked of the device takes until `go`; `num_running` is what it still reads."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.num_running = 0

    async def run(self, function: Callable[[], Result]) -> Result:
        self.num_running += 1
        try:
            waiting = asyncio.ensure_future(self.go.wait())
            while not waiting.done():
                try:
                    await asyncio.shield(waiting)
                except asyncio.CancelledError:
                    continue
            return function()
        finally:
            self.num_running -= 1


async def test_a_cancelled_shipment_returns_when_the_device_reads_no_more() -> None:
    slow = SlowOffload()
    here, there = Card(BUFFER, offload=slow), Card(BUFFER)
    async with two_workers(here, there) as (_, p, d):
        _, transfer = expect(d, 2)
        run = PageRun(first_page=0, num_pages=2)
        shipping = asyncio.ensure_future(p.start(transfer, REQUEST, d.me).ship(run, Pages(here.device).of(run)))
        async with asyncio.timeout(1.0):
            while not slow.num_running:  # the device tells nobody that it was asked
                await asyncio.sleep(0.01)
        shipping.cancel()
        await asyncio.sleep(0.05)
        assert not shipping.done(), "the buffer would be used again"
        slow.go.set()
        with pytest.raises(asyncio.CancelledError):
            await shipping
        assert slow.num_running == 0


async def test_a_link_that_came_anew_has_other_digests() -> None:
    """They are keyed per pair: made for the dead link they would fit nothing."""
    here, there = Card(BUFFER), Card(BUFFER)
    async with two_workers(here, there) as (_, p, d):
        _, first = expect(d, 2)
        assert (await ship(p.start(first, REQUEST, d.me), Pages(here.device).of, 2)).state is OutcomeState.DONE
        await d.drop_peer(p.me.worker, "for a test")
        sink, second = expect(d, 2, name="res-2")
        outcome = await ship(p.start(second, REQUEST, d.me), Pages(here.device).of, 2)
        assert outcome.state is OutcomeState.DONE
        assert sink.pages == {index: page_bytes(index) for index in range(2)}
        assert here.device.num_digests == 3


async def test_staging_that_is_all_out_refuses_and_then_serves() -> None:
    here, there = Card(BUFFER), Card(BUFFER, count=1)
    async with two_workers(here, there) as (_, p, d):
        sink, transfer = expect(d, 4, sink=Sink(d, lands_at_once=False))
        shipping = asyncio.ensure_future(ship(p.start(transfer, REQUEST, d.me), Pages(here.device).of, 4))
        async with asyncio.timeout(2.0):
            while not sink.waiting or not d.snapshot().received.incidents.get("refused_offer"):
                await asyncio.sleep(0.01)
            assert (there.dock.incoming.num_free, there.dock.leaving.num_free) == (0, 1)
            while not shipping.done():
                sink.land_all()
                await asyncio.sleep(0.01)
        assert (await shipping).state is OutcomeState.DONE
    assert sink.pages == {index: page_bytes(index) for index in range(4)}


async def test_a_device_that_fails_is_no_outcome_of_a_transfer() -> None:
    """It computes nothing more for this process: whoever ships raises, and that ends it."""

    class Broken(HostPageDevice):
        def digests(self, *_: object, **__: object) -> bytes:
            raise RuntimeError("an illegal memory access was encountered")

    here, there = Card(BUFFER, device=Broken()), Card(BUFFER)
    async with two_workers(here, there) as (_, p, d):
        _, transfer = expect(d, 2)
        run = PageRun(first_page=0, num_pages=2)
        with pytest.raises(RuntimeError, match="illegal memory"):
            await p.start(transfer, REQUEST, d.me).ship(run, Pages(here.device).of(run))


async def test_digests_are_the_same_wherever_the_pages_lie() -> None:
    card, run = Card(BUFFER), PageRun(first_page=3, num_pages=2)
    digester, key = Digester(InlineOffload(), card.dock), DigestKey(bytes(range(32)))
    expected = b"".join(digest_pages(run_data(run), PAGE, key, first_index=3))
    for data in (run_data(run), Pages(card.device).of(run)):
        assert await digester.digest(data, PAGE, key, first_index=3) == expected
    assert await digester.digest(memoryview(b""), PAGE, key, first_index=3) == b""


def test_a_dock_has_buffers_of_the_hosts_size() -> None:
    dock = Card(BUFFER).dock
    assert dock.incoming.num_bytes == dock.leaving.num_bytes == BUFFER


async def test_bytes_of_a_gpu_without_a_dock_are_a_bug() -> None:
    async with rigged() as rig:
        p, d = await rig.add("p"), await rig.add("d")
        _, transfer = expect(d, 2)
        run = PageRun(first_page=0, num_pages=2)
        with pytest.raises((AssertionError, TransferFailed)):
            await p.start(transfer, REQUEST, d.me).ship(run, Pages(HostPageDevice()).of(run))
