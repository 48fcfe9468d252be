"""Fetches between two workers on one GPU: pages are gathered where the receiver reads them, and copied by nobody.

Over CUDA IPC's rings, line and rules; the GPU's memory is memory of the host that both ends map.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from common.core.entropy import SystemEntropy
from common.core.errors import Fenced, Reason
from common.core.ids import RequestId
from common.kv.digest import DigestKey
from common.kv.span import DeviceSpan, Span
from common.transfer.endpoint import KvEndpoint
from common.transfer.fetch import Retained
from common.transfer.host import read_host
from common.transfer.menu import ChannelMenu
from common.transfer.messages import OutcomeState, PageRun
from common.transfer.same_host.cuda_ipc import CudaIpcFactory
from tests.gpu.host_runtime import HostRuntime
from tests.kv.host_page_device import write_span
from tests.transfer.device_loopback import Card
from tests.transfer.fake_card import GPU
from tests.transfer.rig import PAGE, REQUEST, UNHURRIED, Sink, expect, finale, page_bytes, rigged, run_data

PAGES = 11
BUFFER = 2 * PAGE


@dataclass(slots=True)
class CountedRuntime(HostRuntime):
    """Counts what is copied on the device."""

    num_copies: int = 0

    def copy(self, into: int, source: int, num_bytes: int) -> None:
        self.num_copies += 1
        HostRuntime.copy(self, into, source, num_bytes)


class Kept:
    """A PageSource whose pages lie on the GPU. `gone_at`: a page from which on there is nothing any more."""

    def __init__(self, gone_at: int = PAGES, flipped: bool = False) -> None:
        self.gone_at = gone_at
        self.flipped = flipped
        self.places: list[DeviceSpan] = []

    def retained(self, request: RequestId) -> Retained:
        return Retained(num_pages=PAGES, finale=finale(PAGES), context_digest=b"context")

    async def gather(self, request: RequestId, run: PageRun, out: Span, key: DigestKey | None) -> None:
        assert isinstance(out, DeviceSpan)
        if run.end > self.gone_at:
            raise Fenced(message="gone")
        write_span(out, bytes(run_data(run)))
        self.places.append(out)

    def release(self, request: RequestId) -> None:
        return


@dataclass
class Scene:
    """Two workers, the sender's GPU and runtime, and what it keeps."""

    p: KvEndpoint
    d: KvEndpoint
    here: Card
    runtime: CountedRuntime
    sink: Sink

    async def fetch(self) -> None:
        sink, transfer = expect(self.d, PAGES, sink=self.sink)
        ticket = self.p.mint_ticket(REQUEST, num_pages=PAGES, lease_s=5.0)
        await self.d.pull(ticket, transfer, REQUEST, held_pages=0, context_digest=b"context")
        async with asyncio.timeout(5.0):
            while not (sink.finales or sink.failures) or len(self.p._scope) > 1:  # the push is the other end's task
                await asyncio.sleep(0.01)


@asynccontextmanager
async def scene(kept: Kept, *, num_slots: int = 4) -> AsyncIterator[Scene]:
    async with rigged(limits=UNHURRIED) as rig:
        host, here, there = read_host(GPU), Card(BUFFER), Card(BUFFER)
        assert host is not None
        runtimes = CountedRuntime(), CountedRuntime()

        def menu(runtime: CountedRuntime) -> ChannelMenu:
            rings = {"num_slots": num_slots, "slot_bytes": BUFFER, "max_pairs": 4}
            return ChannelMenu(CudaIpcFactory(host, runtime, entropy=SystemEntropy(), **rings), host=host)

        p = await rig.add("p", pages=2, channels=menu(runtimes[0]), dock=here.dock, source=kept)
        d = await rig.add("d", pages=2, channels=menu(runtimes[1]), dock=there.dock)
        yield Scene(p, d, here, runtimes[0], Sink(d))
    assert here.is_idle
    assert there.is_idle
    for runtime in runtimes:
        async with asyncio.timeout(2.0):
            while runtime._memory:  # a driver tells nobody
                await asyncio.sleep(0.01)


async def test_pages_are_gathered_into_the_receivers_slots_and_copied_by_nobody() -> None:
    kept = Kept()
    async with scene(kept) as here:
        await here.fetch()
        assert here.sink.pages == {index: page_bytes(index) for index in range(PAGES)}
        assert here.sink.finales == [finale(PAGES)]
        assert here.runtime.num_copies == 0
        assert here.here.device.num_finished == len(kept.places) == 6


async def test_with_a_ring_that_spares_no_slot_they_go_through_staging() -> None:
    async with scene(Kept(), num_slots=1) as here:
        await here.fetch()
        assert here.sink.pages == {index: page_bytes(index) for index in range(PAGES)}
        assert here.runtime.num_copies == 6
        assert here.here.device.num_finished == 0


async def test_pages_that_are_gone_amid_a_fetch_give_their_slot_back() -> None:
    async with scene(Kept(gone_at=4)) as here:
        await here.fetch()
        assert [failure.state for failure in here.sink.failures] == [OutcomeState.FAILED]
        (link,) = here.p._links._links.values()
        assert not link._channel._loans  # type: ignore[attr-defined]
        assert here.here.device.num_finished >= 3


async def test_bytes_that_change_in_the_slot_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """After their digests were made."""
    kept = Kept()
    async with scene(kept) as here:
        own, device = here.here.device.digests, here.here.device

        def spoilt(data: DeviceSpan, *rest: object, **facts: object) -> bytes:
            found = own(data, *rest, **facts)  # type: ignore[arg-type]
            write_span(data[:1], b"\xff")
            return found

        monkeypatch.setattr(device, "digests", spoilt)
        await here.fetch()
        assert [failure.reason for failure in here.sink.failures] == [Reason.DIGEST_MISMATCH]
        assert here.sink.finales == []
