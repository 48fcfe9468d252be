"""Other workers' KvService over gRPC: the servicer's counterpart."""

from common.core.errors import Reason
from common.core.ids import WorkerRef
from common.rpc.client import Dialer, call
from common.rpc.convert import kv as convert
from common.transfer.messages import Fetch, Meet, Met, Offer, Outcome, Pair, TransferRef
from common.transfer.peer import Peer
from protos.baton.v1 import kv_pb2, kv_pb2_grpc


class GrpcPeers:
    """Peers behind a dialer, which keeps one channel per incarnation."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    def at(self, worker: WorkerRef) -> Peer:
        return GrpcPeer(worker, self._dialer)


class GrpcPeer:
    """One incarnation. Stateless: the channel is looked up at every call, so a newer epoch is noticed."""

    def __init__(self, worker: WorkerRef, dialer: Dialer) -> None:
        self._worker = worker
        self._dialer = dialer

    async def meet(self, pair: Pair, meet: Meet, *, timeout_s: float) -> Met:
        request = kv_pb2.RendezvousRequest(pair=convert.pair_to_wire(pair), meet=convert.meet_to_wire(meet))
        return convert.met_from_wire((await self._rendezvous(request, timeout_s)).met)

    async def put(self, pair: Pair, key: str, value: bytes, *, timeout_s: float) -> None:
        step = kv_pb2.StoreSet(key=key, value=value)
        await self._rendezvous(kv_pb2.RendezvousRequest(pair=convert.pair_to_wire(pair), set=step), timeout_s)

    async def get(self, pair: Pair, key: str, *, wait_s: float, timeout_s: float) -> bytes | None:
        step = kv_pb2.StoreGet(key=key, wait_ms=round(wait_s * 1000))
        request = kv_pb2.RendezvousRequest(pair=convert.pair_to_wire(pair), get=step)
        response = await self._rendezvous(request, timeout_s)
        return response.value.value if response.value.found else None

    async def leave(self, pair: Pair, reason: str, *, timeout_s: float) -> None:
        step = kv_pb2.Leave(reason=reason[: convert.MAX_TEXT])
        await self._rendezvous(kv_pb2.RendezvousRequest(pair=convert.pair_to_wire(pair), leave=step), timeout_s)

    async def offer(self, offer: Offer, *, timeout_s: float) -> None:
        stub = await self._stub()
        await call(stub.Offer, convert.offer_to_wire(offer), peer=self._worker.worker, timeout_s=timeout_s)

    async def outcome(self, transfer: TransferRef, *, wait_s: float, abort: Reason | None, timeout_s: float) -> Outcome:
        request = kv_pb2.AckRequest(
            transfer=convert.transfer_to_wire(transfer),
            wait_ms=round(wait_s * 1000),
            abort_reason="" if abort is None else abort.value,
        )
        stub = await self._stub()
        response = await call(stub.Ack, request, peer=self._worker.worker, timeout_s=timeout_s)
        return convert.outcome_from_wire(response)

    async def fetch(self, fetch: Fetch, *, timeout_s: float) -> int:
        stub = await self._stub()
        request = convert.fetch_to_wire(fetch)
        response: kv_pb2.FetchResponse = await call(stub.Fetch, request, peer=self._worker.worker, timeout_s=timeout_s)
        return response.num_pages

    async def _rendezvous(self, request: kv_pb2.RendezvousRequest, timeout_s: float) -> kv_pb2.RendezvousResponse:
        stub = await self._stub()
        response: kv_pb2.RendezvousResponse = await call(
            stub.Rendezvous, request, peer=self._worker.worker, timeout_s=timeout_s
        )
        return response

    async def _stub(self) -> "kv_pb2_grpc.KvServiceAsyncStub":
        return kv_pb2_grpc.KvServiceStub(await self._dialer.channel(self._worker))
