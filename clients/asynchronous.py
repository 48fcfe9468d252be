"""The client for asyncio."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import grpc

from clients.channel import aio_channel, bounded
from clients.errors import as_call_error
from clients.identity import Identity
from clients.progress import Progress
from protos.baton.v1 import generation_pb2, generation_pb2_grpc

RESUME_PAUSE_S = 0.2


class AsyncBaton:
    """`async with AsyncBaton("127.0.0.1:7450") as baton`. `credentials`: for TLS, Identity.read(FOLDER, cluster=NAME);
    without them plain text.
    """

    def __init__(self, target: str, *, credentials: Identity | grpc.ChannelCredentials | None = None) -> None:
        self._channel = aio_channel(target, credentials)
        self.stub = generation_pb2_grpc.GenerationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def generate(
        self, request: generation_pb2.GenerateRequest, *, timeout_s: float = 600.0
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        """The answer, message by message, each token once. Where the request is `resumable` a broken connection is
        taken up again on the same router. Leaving the loop cancels the request. Raises BatonCallError.
        """
        timeout_s = bounded(timeout_s)
        deadline = asyncio.get_running_loop().time() + timeout_s
        progress = Progress(request.request_id if request.resumable else "")
        call: Any = self.stub.Generate(request, timeout=timeout_s)
        try:
            while True:
                try:
                    async for message in call:
                        yield progress.note(message)
                    return
                except grpc.aio.AioRpcError as error:
                    if not request.resumable or not progress.may_resume(error.code().name):
                        raise as_call_error(error) from error
                await asyncio.sleep(RESUME_PAUSE_S)
                left = max(deadline - asyncio.get_running_loop().time(), 0.0)
                call = self.stub.Resume(progress.resume(request.tenant), timeout=left, wait_for_ready=True)
        finally:
            call.cancel()

    async def text(self, request: generation_pb2.GenerateRequest, *, timeout_s: float = 600.0) -> str:
        """The first choice, whole."""
        parts = [
            delta.text
            async for response in self.generate(request, timeout_s=timeout_s)
            for delta in response.deltas
            if delta.choice == 0
        ]
        return "".join(parts)

    async def model(self, *, timeout_s: float = 10.0) -> generation_pb2.GetModelResponse:
        """Which model is served. Raises BatonCallError."""
        try:
            return await self.stub.GetModel(generation_pb2.GetModelRequest(), timeout=bounded(timeout_s))
        except grpc.aio.AioRpcError as error:
            raise as_call_error(error) from error
