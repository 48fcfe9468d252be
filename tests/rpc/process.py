"""A worker-shaped servicer whose behaviour a test picks by name.

In this process, or in another: `python -m tests.rpc.process serve`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc

from common.core.errors import (
    ContextLengthExceeded,
    FieldViolation,
    Refused,
)
from common.rpc.bind import Bind
from common.rpc.client import grpc_connect
from common.rpc.deadline import remaining_s
from common.rpc.options import Surface
from common.rpc.server import Service, serve
from protos.baton.v1 import worker_pb2, worker_pb2_grpc


class PickyServicer(worker_pb2_grpc.WorkerServiceServicer):
    """GetStatus reports the remaining deadline; CancelWork fails as its first item's reason says; Subscribe counts."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.over = asyncio.Event()

    async def GetStatus(
        self, request: worker_pb2.GetStatusRequest, context: grpc.aio.ServicerContext
    ) -> worker_pb2.GetStatusResponse:
        return worker_pb2.GetStatusResponse(state="ready", counters={"remaining_s": remaining_s() or -1.0})

    async def CancelWork(
        self, request: worker_pb2.CancelWorkRequest, context: grpc.aio.ServicerContext
    ) -> worker_pb2.CancelWorkResponse:
        match request.items[0].reason if request.items else "":
            case "invalid":
                violations = tuple(FieldViolation(field=f"field{index}", description="x" * 300) for index in range(100))
                raise ContextLengthExceeded(message="prompt is too long", violations=violations)
            case "refused":
                raise Refused(
                    message="queue is full", retry_after_s=2.5, quota_subject="tenant:a", facts={"queue": "9"}
                )
            case "bug":
                raise KeyError("secret text of a prompt")
            case "self-cancel":
                raise asyncio.CancelledError
            case "group":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_refuse())
            case "gone":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_write_to_nobody())
            case "timeout":
                raise TimeoutError("inner wait")
        return worker_pb2.CancelWorkResponse()

    async def Drain(
        self, request: worker_pb2.DrainRequest, context: grpc.aio.ServicerContext
    ) -> worker_pb2.DrainResponse:
        try:
            await asyncio.sleep(3600)
        finally:
            self.seen.append("drain over")
            self.over.set()
        return worker_pb2.DrainResponse()

    async def Subscribe(
        self, request: worker_pb2.SubscribeRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[worker_pb2.SubscribeResponse]:
        sequence = 0
        try:
            while True:
                sequence += 1
                if sequence == 4 and request.router.router_id == "fails":
                    raise Refused(message="enough")
                if sequence == 4 and request.router.router_id == "ends":
                    return
                message = worker_pb2.SubscribeResponse(sequence=sequence)
                if request.router.router_id == "floods":
                    message.worker.address = "x" * 200_000
                yield message
                await asyncio.sleep(0.01)
        finally:
            self.seen.append("subscribe over")
            self.over.set()


async def _write_to_nobody() -> None:
    raise grpc.aio.InternalError("what grpc says when a header cannot be sent")


async def _refuse() -> None:
    raise Refused(message="queue is full")


def worker_service(servicer: PickyServicer) -> Service:
    return Service(
        name="baton.v1.WorkerService",
        add=lambda server: worker_pb2_grpc.add_WorkerServiceServicer_to_server(servicer, server),
    )


async def _serve() -> None:
    server = await serve([worker_service(PickyServicer())], Bind(), surface=Surface.INTERNAL)
    print(server.address, flush=True)
    await asyncio.sleep(600)


async def _subscribe(address: str) -> None:
    async with grpc_connect(Surface.INTERNAL)(address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        async for response in stub.Subscribe(worker_pb2.SubscribeRequest()):
            print(response.sequence, flush=True)


if __name__ == "__main__":
    asyncio.run(_serve() if sys.argv[1] == "serve" else _subscribe(sys.argv[2]))
