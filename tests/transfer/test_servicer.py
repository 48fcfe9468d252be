"""KvService over real gRPC: the same words as in memory, and errors that arrive as what they were."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from common.core.clock import SystemClock
from common.core.entropy import SystemEntropy, mint_epoch
from common.core.errors import Fenced, InvalidRequest, Mismatch, NotFound, Reason, Unavailable
from common.core.ids import Epoch, ReservationId, TransferId, WorkerId, WorkerRef
from common.kv.layout import PageLayout
from common.kv.staging import StagingPool
from common.rpc.bind import Bind
from common.rpc.client import Dialer, call, grpc_connect
from common.rpc.convert.worker import worker_to_wire
from common.rpc.options import Surface
from common.rpc.server import Service, serve
from common.transfer.endpoint import KvEndpoint
from common.transfer.fetch import PageSource
from common.transfer.loopback import LoopbackNetwork
from common.transfer.menu import ChannelMenu
from common.transfer.messages import Fetch, OutcomeState, PageRun, TransferRef
from common.transfer.offload import InlineOffload
from common.transfer.remote import GrpcPeers
from common.transfer.servicer import SERVICE_NAME, KvServicer
from protos.baton.v1 import kv_pb2, kv_pb2_grpc
from tests.transfer.rig import FAST, LAYOUT, PAGE, REQUEST, expect, page_bytes, run_data, ship_all
from tests.transfer.test_fetch import KEPT, Source, until


@asynccontextmanager
async def served(
    network: LoopbackNetwork, name: str, *, layout: PageLayout = LAYOUT, source: PageSource | None = None
) -> AsyncIterator[tuple[KvEndpoint, WorkerRef]]:
    """An endpoint behind a listener, and the reference under which others dial it."""
    me = WorkerRef(worker=WorkerId(name), epoch=mint_epoch(SystemEntropy()), address="")
    dialer = Dialer(grpc_connect(Surface.INTERNAL))
    endpoint = KvEndpoint(
        me,
        layout=layout,
        peers=GrpcPeers(dialer),
        channels=ChannelMenu(network),
        staging=StagingPool(4, 4 * PAGE),
        offload=InlineOffload(),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        limits=FAST,
        source=source,
    )
    service = Service(name=SERVICE_NAME, add=partial(kv_pb2_grpc.add_KvServiceServicer_to_server, KvServicer(endpoint)))
    server = await serve([service], Bind(), surface=Surface.INTERNAL)
    try:
        async with endpoint:
            yield endpoint, WorkerRef(worker=me.worker, epoch=me.epoch, address=server.address)
    finally:
        await dialer.close()
        await server.stop(0.1)


@pytest.fixture
def network() -> LoopbackNetwork:
    return LoopbackNetwork(SystemEntropy())


async def test_a_transfer_over_grpc(network: LoopbackNetwork) -> None:
    async with served(network, "p") as (prefill, _), served(network, "d") as (decode, where):
        sink, transfer_id = expect(decode, 7)
        transfer = prefill.start(transfer_id, REQUEST, where)
        await ship_all(transfer, 7)
        assert (await transfer.wait_outcome(2.0)).state is OutcomeState.DONE
        assert sink.pages == {index: page_bytes(index) for index in range(7)}


async def test_an_abort_over_grpc_carries_its_reason(network: LoopbackNetwork) -> None:
    async with served(network, "p") as (prefill, _), served(network, "d") as (decode, where):
        sink, transfer_id = expect(decode, 7)
        transfer = prefill.start(transfer_id, REQUEST, where)
        run = PageRun(first_page=0, num_pages=2)
        await transfer.ship(run, run_data(run))
        transfer.abort(Reason.POISON_REQUEST, "test")
        await until(lambda: sink.failures)
        assert sink.failures[0].reason is Reason.POISON_REQUEST


async def test_errors_arrive_as_what_they_were(network: LoopbackNetwork) -> None:
    other = PageLayout(num_layers=2, num_kv_heads=1, head_dim=8, page_size=8, dtype="sim")
    nowhere = TransferId(ReservationId("nowhere"), 1)
    async with (
        served(network, "p") as (prefill, _),
        served(network, "d") as (_, where),
        served(network, "odd", layout=other) as (_, odd),
    ):
        with pytest.raises(NotFound, match="nowhere"):
            await ship_all(prefill.start(nowhere, REQUEST, where), 2)
        with pytest.raises(Mismatch, match="page_size 8 here, 4 there"):
            await prefill.start(nowhere, REQUEST, odd).open()
        old = WorkerRef(worker=WorkerId("z"), epoch=Epoch(3), address=where.address)
        with pytest.raises(Fenced):
            await prefill.start(nowhere, REQUEST, old).open()
        gone = WorkerRef(worker=WorkerId("gone"), epoch=Epoch(3), address="127.0.0.1:1")
        with pytest.raises(Unavailable):
            await prefill.start(nowhere, REQUEST, gone).open()


async def test_an_inlet_that_was_closed_is_reopened_over_grpc(network: LoopbackNetwork) -> None:
    """The receiver's refusal names the pair as broken, and that survives the wire."""
    async with served(network, "p") as (prefill, _), served(network, "d") as (decode, where):
        for attempt in (1, 2):
            sink, transfer_id = expect(decode, 3, attempt=attempt)
            transfer = prefill.start(transfer_id, REQUEST, where)
            await ship_all(transfer, 3)
            assert (await transfer.wait_outcome(2.0)).state is OutcomeState.DONE
            assert len(sink.pages) == 3
            await decode.drop_peer(WorkerId("p"), "idle")
        assert prefill.snapshot().sent.incidents["link_reopened"] == 1


async def test_fetch_and_probe_over_grpc(network: LoopbackNetwork) -> None:
    source = Source()
    async with served(network, "p", source=source) as (holder, at), served(network, "d") as (caller, where):
        ticket = holder.mint_ticket(KEPT, num_pages=7, lease_s=2.0)
        sink, transfer_id = expect(caller, 7)
        ref = TransferRef(transfer=transfer_id, request=REQUEST, sender_epoch=at.epoch, receiver_epoch=where.epoch)
        fetch = Fetch(ticket=ticket, transfer=ref, receiver=where, held_pages=0, context_digest=b"mine")
        assert await GrpcPeers(caller._peers._dialer).at(at).fetch(fetch, timeout_s=2.0) == 7  # type: ignore[attr-defined]
        await until(lambda: source.released)
        assert len(sink.pages) == 7
        channel = grpc_connect(Surface.INTERNAL)(at.address)
        stub = kv_pb2_grpc.KvServiceStub(channel)
        request = kv_pb2.ProbeRequest(target=worker_to_wire(where), num_bytes=10 * PAGE)
        report = await call(stub.Probe, request, peer="p", timeout_s=5.0)
        assert report.num_bytes == 10 * PAGE
        with pytest.raises(InvalidRequest):
            await call(stub.Rendezvous, kv_pb2.RendezvousRequest(), peer="p", timeout_s=5.0)
        await channel.close()
