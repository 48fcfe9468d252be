"""A receiving worker in a process of its own, and the sending end of a test that talks to it.

`python -m tests.transfer.two_processes CHANNEL` prints its address, waits for one request's pages, and says whether
they are right.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import torch

from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy, mint_epoch
from common.core.errors import BatonError
from common.core.ids import Epoch, RequestId, ReservationId, TransferId, WorkerId, WorkerRef
from common.kv.layout import PageLayout
from common.kv.staging import StagingPool
from common.rpc.bind import Bind
from common.rpc.client import Dialer, grpc_connect
from common.rpc.options import Surface
from common.rpc.server import Service, serve
from common.transfer.endpoint import KvEndpoint
from common.transfer.expectation import Arrival, Expectation
from common.transfer.gloo import GlooFactory
from common.transfer.host import read_host
from common.transfer.limits import TransferLimits
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Finale, Outcome, PageRun
from common.transfer.offload import ThreadOffload
from common.transfer.outbound import OutboundTransfer
from common.transfer.remote import GrpcPeers
from common.transfer.same_host.factory import SameHostFactory
from common.transfer.servicer import SERVICE_NAME, KvServicer
from protos.baton.v1.kv_pb2_grpc import add_KvServiceServicer_to_server

LAYOUT = PageLayout(num_layers=12, num_kv_heads=4, head_dim=64, page_size=16, dtype="bfloat16")
"""Model S: 196,608 bytes a page; 32 MB are its pages for 2,688 tokens."""
RUN_PAGES = 20
NUM_RUNS = 8
TOTAL = RUN_PAGES * NUM_RUNS
TRANSFER = TransferId(reservation=ReservationId("res-1"), attempt=1)
REQUEST = RequestId("req-1")
LIMITS = TransferLimits(control_timeout_s=0.6, frame_timeout_s=1.0, outcome_wait_s=0.3, min_bytes_per_s=2e7)


def page(index: int) -> bytes:
    return (index + 1).to_bytes(8, "little") * (LAYOUT.page_bytes // 8)


@asynccontextmanager
async def working(name: str, channel: str, limits: TransferLimits = LIMITS) -> AsyncIterator[tuple[KvEndpoint, str]]:
    """One endpoint with its listener, its dialer and its digest thread; and the address to dial it at."""
    me = WorkerRef(worker=WorkerId(name), epoch=mint_epoch(SystemEntropy()), address="")
    dialer, offload = Dialer(grpc_connect(Surface.INTERNAL)), ThreadOffload()
    endpoint = KvEndpoint(
        me,
        layout=LAYOUT,
        peers=GrpcPeers(dialer),
        channels=menu(channel),
        staging=StagingPool(4, RUN_PAGES * LAYOUT.page_bytes),
        offload=offload,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        limits=limits,
    )
    service = Service(name=SERVICE_NAME, add=partial(add_KvServiceServicer_to_server, KvServicer(endpoint)))
    server = await serve([service], Bind(), surface=Surface.INTERNAL)
    async with endpoint:
        yield endpoint, server.address
    await server.stop(0.5)
    await dialer.close()
    offload.close()


def menu(channel: str) -> ChannelMenu:
    if channel == "gloo":
        return ChannelMenu(GlooFactory())
    host = read_host()
    assert host is not None
    entropy = SystemEntropy()
    factory = SameHostFactory(host, num_slots=4, slot_bytes=RUN_PAGES * LAYOUT.page_bytes, entropy=entropy)
    return ChannelMenu(factory, host=host)


class Checker:
    """Lands every run at once, and remembers which pages were right."""

    def __init__(self, endpoint: KvEndpoint) -> None:
        self.endpoint = endpoint
        self.right: set[int] = set()
        self.finale = asyncio.Event()

    def on_run(self, arrival: Arrival) -> None:
        size = LAYOUT.page_bytes
        for offset, index in enumerate(range(arrival.run.first_page, arrival.run.end)):
            if arrival.data[offset * size : (offset + 1) * size] == page(index):
                self.right.add(index)
        self.endpoint.inbound.landed(arrival)

    def on_finale(self, transfer: TransferId, finale: Finale) -> None:
        self.finale.set()

    def on_failed(self, transfer: TransferId, outcome: Outcome) -> None:
        print(f"failed: {outcome.message}", flush=True)


class Session:
    """The sender's half of the test."""

    def __init__(self, transfer: OutboundTransfer) -> None:
        self.transfer = transfer
        self.seconds = 0.0

    async def ship(self, number: int) -> None:
        run = PageRun(first_page=number * RUN_PAGES, num_pages=RUN_PAGES)
        data = memoryview(bytearray(b"".join(page(index) for index in range(run.first_page, run.end))))
        started = time.perf_counter()
        await self.transfer.ship(run, data)
        self.seconds += time.perf_counter() - started

    async def finish(self) -> Outcome:
        await self.transfer.finish(Finale(first_tokens=(), total_pages=TOTAL))
        return await self.transfer.wait_outcome(5.0)

    async def is_failed(self) -> bool:
        """Ships on against a dead peer until it is noticed."""
        try:
            await self.ship(NUM_RUNS - 1)
        except BatonError:
            return self.transfer.outcome.is_terminal
        return False


@asynccontextmanager
async def sending(line: str, channel: str) -> AsyncIterator[Session]:
    """A sending worker in this process. `line` is what the child printed: name, epoch, host:port."""
    name, epoch, address = line.split()
    receiver = WorkerRef(worker=WorkerId(name), epoch=Epoch(int(epoch)), address=address)
    async with working("p", channel) as (endpoint, _):
        session = Session(endpoint.start(TRANSFER, REQUEST, receiver))
        await session.transfer.open()
        yield session
        sent = endpoint.snapshot().sent
        if sent.seconds and session.seconds:
            wire, whole = sent.bytes / sent.seconds / 2**30, sent.bytes / session.seconds / 2**30
            print(f"\n{sent.bytes >> 20} MiB: {wire:.2f} GiB/s on the wire, {whole:.2f} with offers and digests")


async def main(channel: str) -> None:
    torch.set_num_threads(1)
    async with working("d", channel) as (endpoint, address):
        sink = Checker(endpoint)
        expectation = Expectation(
            transfer=TRANSFER, request=REQUEST, total_pages=TOTAL, held_pages=0, page_bytes=LAYOUT.page_bytes
        )
        endpoint.inbound.expect(expectation, sink)
        print(endpoint.me.worker, endpoint.me.epoch, address, flush=True)
        async with asyncio.timeout(60):
            await sink.finale.wait()
        print("all pages right" if sink.right == set(range(TOTAL)) else f"wrong: {len(sink.right)}", flush=True)
        await asyncio.sleep(1.0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
