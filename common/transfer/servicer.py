"""KvService over gRPC: protobuf in, endpoint, protobuf out. Errors are translated by the boundary in common/rpc."""

from typing import Any

from common.core.errors import InvalidRequest
from common.rpc.convert import kv as convert
from common.rpc.convert.worker import worker_from_wire
from common.transfer.endpoint import KvEndpoint
from protos.baton.v1 import kv_pb2, kv_pb2_grpc

SERVICE_NAME = "baton.v1.KvService"


class KvServicer(kv_pb2_grpc.KvServiceServicer):
    """Thin on purpose: it decides nothing."""

    def __init__(self, endpoint: KvEndpoint) -> None:
        self._endpoint = endpoint

    async def Rendezvous(self, request: kv_pb2.RendezvousRequest, context: Any) -> kv_pb2.RendezvousResponse:
        pair = convert.pair_from_wire(request.pair)
        match request.WhichOneof("step"):
            case "meet":
                met = await self._endpoint.meet(pair, convert.meet_from_wire(request.meet))
                return kv_pb2.RendezvousResponse(met=convert.met_to_wire(met))
            case "set":
                await self._endpoint.put(pair, request.set.key, request.set.value)
                return kv_pb2.RendezvousResponse()
            case "get":
                value = await self._endpoint.get(pair, request.get.key, request.get.wait_ms / 1000)
                return kv_pb2.RendezvousResponse(value=kv_pb2.StoreValue(found=value is not None, value=value or b""))
            case "leave":
                await self._endpoint.leave(pair, request.leave.reason[: convert.MAX_TEXT])
                return kv_pb2.RendezvousResponse()
            case _:
                raise InvalidRequest(message="a rendezvous request without a step")

    async def Offer(self, request: kv_pb2.OfferRequest, context: Any) -> kv_pb2.OfferResponse:
        await self._endpoint.offer(convert.offer_from_wire(request))
        return kv_pb2.OfferResponse()

    async def Ack(self, request: kv_pb2.AckRequest, context: Any) -> kv_pb2.AckResponse:
        transfer = convert.transfer_from_wire(request.transfer)
        abort = convert.reason_from_wire(request.abort_reason)
        return convert.outcome_to_wire(await self._endpoint.outcome(transfer, request.wait_ms / 1000, abort))

    async def Fetch(self, request: kv_pb2.FetchRequest, context: Any) -> kv_pb2.FetchResponse:
        return kv_pb2.FetchResponse(num_pages=await self._endpoint.fetch(convert.fetch_from_wire(request)))

    async def Probe(self, request: kv_pb2.ProbeRequest, context: Any) -> kv_pb2.ProbeResponse:
        report = await self._endpoint.probe(worker_from_wire(request.target), request.num_bytes)
        return convert.probe_to_wire(report)
