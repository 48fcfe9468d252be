"""Pull: a holder of retained pages pushes them into the caller's reservation, once, on a valid ticket. The probe."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from common.core.errors import Fenced, InvalidRequest, Reason
from common.core.ids import RequestId, TransferId
from common.core.ticket import Ticket
from common.kv.digest import DigestKey
from common.kv.span import Span
from common.transfer.endpoint import KvEndpoint
from common.transfer.fetch import Retained
from common.transfer.messages import Fetch, PageRun, TransferRef
from tests.transfer.rig import PAGE, REQUEST, Rig, Sink, expect, finale, page_bytes, rigged, run_data

pytestmark = pytest.mark.virtual_time

KEPT = RequestId("req-kept")


class Source:
    """Retains the pages of one request."""

    def __init__(self, num_pages: int = 7) -> None:
        self.num_pages = num_pages
        self.gathered: list[PageRun] = []
        self.released: list[RequestId] = []

    def retained(self, request: RequestId) -> Retained | None:
        if request != KEPT or KEPT in self.released:
            return None
        return Retained(num_pages=self.num_pages, finale=finale(self.num_pages), context_digest=b"mine")

    async def gather(self, request: RequestId, run: PageRun, out: Span, key: DigestKey | None) -> None:
        self.gathered.append(run)
        assert isinstance(out, memoryview)
        out[:] = run_data(run)

    def release(self, request: RequestId) -> None:
        self.released.append(request)


class GoneSource(Source):
    """Agrees, and has nothing any more when the pages are wanted."""

    async def gather(self, request: RequestId, run: PageRun, out: Span, key: DigestKey | None) -> None:
        raise Fenced(message="gone")


async def couple(rig: Rig, held: int = 0, pages: int = 4) -> tuple[Source, Ticket, Fetch, Sink]:
    """A holder, a caller with a promise, and the fetch between them."""
    source = Source()
    holder, caller = await rig.add("p", source=source, pages=pages), await rig.add("d")
    ticket = holder.mint_ticket(KEPT, num_pages=7, lease_s=0.4)
    sink, transfer = expect(caller, 7, held=held)
    return source, ticket, fetch_of(ticket, caller, transfer, held), sink


def fetch_of(ticket: Ticket, caller: KvEndpoint, transfer: TransferId, held: int) -> Fetch:
    me = caller.me
    ref = TransferRef(transfer=transfer, request=REQUEST, sender_epoch=ticket.holder.epoch, receiver_epoch=me.epoch)
    return Fetch(ticket=ticket, transfer=ref, receiver=me, held_pages=held, context_digest=b"mine")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # what is waited for has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("held", [0, 3])
async def test_a_fetch_brings_the_pages_that_are_not_held_and_then_releases_them(held: int) -> None:
    async with rigged() as rig:
        source, _, fetch, sink = await couple(rig, held)
        caller = rig.ends[fetch.receiver.worker]
        peer = caller._peers.at(fetch.ticket.holder)
        assert await peer.fetch(fetch, timeout_s=1.0) == 7 - held
        assert await peer.fetch(fetch, timeout_s=1.0) == 7 - held
        await until(lambda: source.released)
        assert sink.pages == {index: page_bytes(index) for index in range(held, 7)}
        assert sink.finales == [finale(7)]
        assert source.released == [KEPT]
        assert rig.ends[fetch.ticket.holder.worker].snapshot().sent.done == 1


async def test_a_ticket_is_not_spent_twice() -> None:
    async with rigged() as rig:
        _, ticket, fetch, _ = await couple(rig)
        caller = rig.ends[fetch.receiver.worker]
        peer = caller._peers.at(ticket.holder)
        await peer.fetch(fetch, timeout_s=1.0)
        _, other = expect(caller, 7, name="res-2")
        with pytest.raises(Fenced) as caught:
            await peer.fetch(fetch_of(ticket, caller, other, 0), timeout_s=1.0)
        assert caught.value.reason is Reason.TICKET_INVALID


async def test_pages_that_nobody_fetches_are_released_when_the_lease_ends() -> None:
    async with rigged() as rig:
        source, _, fetch, sink = await couple(rig)
        await until(lambda: source.released)
        with pytest.raises(Fenced):
            await rig.ends[fetch.receiver.worker]._peers.at(fetch.ticket.holder).fetch(fetch, timeout_s=1.0)
        assert sink.pages == {}


async def test_a_caller_that_is_gone_costs_the_holder_nothing() -> None:
    async with rigged() as rig:
        source, _, fetch, _ = await couple(rig)
        rig.network.faults.stalled = True
        await rig.ends[fetch.receiver.worker]._peers.at(fetch.ticket.holder).fetch(fetch, timeout_s=1.0)
        await until(lambda: source.released)
        sent = rig.ends[fetch.ticket.holder.worker].snapshot().sent
        assert sent.incidents["fetch_failed"] == 1
        assert sent.in_flight == 0


async def test_pages_of_another_context_are_not_pushed_and_not_kept_any_longer() -> None:
    async with rigged() as rig:
        source, _, fetch, sink = await couple(rig)
        peer = rig.ends[fetch.receiver.worker]._peers.at(fetch.ticket.holder)
        with pytest.raises(Fenced) as caught:
            await peer.fetch(replace(fetch, context_digest=b"other"), timeout_s=1.0)
        assert caught.value.reason is Reason.TICKET_INVALID
        assert source.released == [KEPT]
        assert sink.pages == {}


async def test_a_push_that_never_begins_fails_the_transfer_in_its_own_time() -> None:
    """The holder agreed, and lost the pages before its first run: nothing else would tell the caller."""
    async with rigged() as rig:
        holder, caller = await rig.add("p", source=GoneSource()), await rig.add("d")
        ticket = holder.mint_ticket(KEPT, num_pages=7, lease_s=0.4)
        sink, transfer = expect(caller, 7, must_begin_s=0.3)
        await caller.pull(ticket, transfer, REQUEST, held_pages=0, context_digest=b"mine")
        await until(lambda: sink.failures)
        assert sink.failures[0].reason is Reason.TRANSFER_TIMEOUT
        assert caller.snapshot().received.started == 0


async def test_a_worker_that_retains_nothing_refuses() -> None:
    async with rigged() as rig:
        holder, caller = await rig.add("p"), await rig.add("d")
        ticket = holder.mint_ticket(KEPT, num_pages=7, lease_s=1.0)
        _, transfer = expect(caller, 7)
        with pytest.raises(Fenced):
            await caller._peers.at(holder.me).fetch(fetch_of(ticket, caller, transfer, 0), timeout_s=1.0)


async def test_two_workers_that_fetch_from_each_other_both_get_their_pages() -> None:
    """Each has two staging buffers for everything: neither may wait for the other's for ever."""
    async with rigged() as rig:
        ends = [await rig.add(name, source=Source(), staging=2, pages=2) for name in ("a", "b")]
        sinks = []
        for holder, caller in (ends, ends[::-1]):
            ticket = holder.mint_ticket(KEPT, num_pages=7, lease_s=1.0)
            sink, transfer = expect(caller, 7)
            sinks.append(sink)
            await caller._peers.at(holder.me).fetch(fetch_of(ticket, caller, transfer, 0), timeout_s=1.0)
        await until(lambda: all(sink.finales for sink in sinks))
        assert all(len(sink.pages) == 7 for sink in sinks)


async def test_a_probe_moves_bytes_and_counts_no_transfer() -> None:
    async with rigged() as rig:
        rig.network.faults.bytes_per_s = 1e6
        one, other = await rig.add("p"), await rig.add("d")
        report = await one.probe(other.me, 10 * PAGE + 1)
        assert report.num_bytes == 11 * PAGE
        assert report.data_s >= report.num_bytes / 1e6
        assert one.snapshot().sent.started == other.snapshot().received.started == 0
        assert other.snapshot().received.bytes == 11 * PAGE
        with pytest.raises(InvalidRequest):
            await one.probe(other.me, 0)
        with pytest.raises(InvalidRequest):
            await one.probe(other.me, 2**32)


async def test_the_next_run_is_gathered_while_one_is_on_its_way_and_no_more() -> None:
    async with rigged() as rig:
        source, _, fetch, sink = await couple(rig, pages=1)
        holder = rig.ends[fetch.ticket.holder.worker]
        await holder._links.hold(fetch.receiver)  # open before the wires stand still
        rig.network.faults.bytes_per_s = PAGE * 10
        await rig.ends[fetch.receiver.worker]._peers.at(fetch.ticket.holder).fetch(fetch, timeout_s=1.0)
        await until(lambda: source.gathered)
        await asyncio.sleep(0.02)
        assert [run.first_page for run in source.gathered] == [0, 1]
        assert sink.pages == {}
        await until(lambda: source.released)
        assert sorted(sink.pages) == list(range(7))
