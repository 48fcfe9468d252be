"""The client for code without asyncio."""

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from clients.channel import bounded, plain_channel
from clients.errors import as_call_error
from clients.identity import Identity
from clients.progress import Progress
from protos.baton.v1 import generation_pb2, generation_pb2_grpc

RESUME_PAUSE_S = 0.2


class Baton:
    """`with Baton("127.0.0.1:7450") as baton`; threads may share it. `credentials`: as of AsyncBaton."""

    def __init__(self, target: str, *, credentials: Identity | grpc.ChannelCredentials | None = None) -> None:
        self._channel = plain_channel(target, credentials)
        self.stub = generation_pb2_grpc.GenerationServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def generate(
        self, request: generation_pb2.GenerateRequest, *, timeout_s: float = 600.0
    ) -> Iterator[generation_pb2.GenerateResponse]:
        """As AsyncBaton.generate."""
        progress = Progress(request.request_id if request.resumable else "")
        first: Any = self.stub.Generate(request, timeout=bounded(timeout_s))
        call = first
        try:
            while True:
                try:
                    for message in call:
                        yield progress.note(message)
                    return
                except grpc.RpcError as error:
                    told = as_call_error(error)
                    if not request.resumable or not progress.may_resume(told.code):
                        raise told from error
                threading.Event().wait(RESUME_PAUSE_S)
                left = first.time_remaining()
                call = self.stub.Resume(progress.resume(request.tenant), timeout=left, wait_for_ready=True)
        finally:
            call.cancel()

    def text(self, request: generation_pb2.GenerateRequest, *, timeout_s: float = 600.0) -> str:
        """The first choice, whole."""
        responses = self.generate(request, timeout_s=timeout_s)
        return "".join(delta.text for response in responses for delta in response.deltas if delta.choice == 0)

    def model(self, *, timeout_s: float = 10.0) -> generation_pb2.GetModelResponse:
        """Which model is served. Raises BatonCallError."""
        try:
            return self.stub.GetModel(generation_pb2.GetModelRequest(), timeout=bounded(timeout_s))
        except grpc.RpcError as error:
            raise as_call_error(error) from error
