"""Of a call that failed nothing is left, though nobody looks for garbage: else refusals alone could take all memory."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import ref

import grpc
import pytest

from common.core.aftermath import again, kept
from common.core.errors import BatonError, ContextLengthExceeded, Refused
from common.rpc.bind import Bind
from common.rpc.client import call, grpc_connect, stream
from common.rpc.options import Surface
from common.rpc.server import serve
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.rpc.process import worker_service


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Held:
    """Stands for what a handler has of its request."""


class FailingServicer(worker_pb2_grpc.WorkerServiceServicer):
    """Every call fails, each in its own way."""

    def __init__(self) -> None:
        self.held: list[ref[Held]] = []

    def hold(self) -> Held:
        held = Held()
        self.held.append(ref(held))
        return held

    async def CancelWork(self, request: worker_pb2.CancelWorkRequest, context: Any) -> worker_pb2.CancelWorkResponse:
        held = self.hold()
        assert held is not None
        if request.items[0].reason == "late":
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(1)
            except TimeoutError as error:
                raise Refused(message="too late") from error
        raise ContextLengthExceeded(message="too long")

    async def Subscribe(self, request: worker_pb2.SubscribeRequest, context: Any) -> AsyncIterator[Any]:
        held = self.hold()
        assert held is not None
        yield worker_pb2.SubscribeResponse()
        raise Refused(message="no more")


@asynccontextmanager
async def served(servicer: FailingServicer) -> AsyncIterator[grpc.aio.Channel]:
    server = await serve([worker_service(servicer)], Bind(), surface=Surface.INTERNAL)
    try:
        async with grpc_connect(Surface.INTERNAL)(server.address) as channel:
            yield channel
    finally:
        await server.stop(0)


@pytest.mark.parametrize("reason", ["refused", "late"])
async def test_a_call_that_failed_leaves_nothing_of_its_request(reason: str) -> None:
    servicer = FailingServicer()
    async with served(servicer) as channel:
        request = worker_pb2.CancelWorkRequest(items=[worker_pb2.CancelItem(reason=reason)])
        with pytest.raises(BatonError):
            await call(worker_pb2_grpc.WorkerServiceStub(channel).CancelWork, request, peer="w", timeout_s=5)
        await gone(servicer)


async def test_a_stream_that_failed_leaves_nothing_of_its_request() -> None:
    servicer = FailingServicer()
    async with served(servicer) as channel:
        method = worker_pb2_grpc.WorkerServiceStub(channel).Subscribe
        async with stream(method, worker_pb2.SubscribeRequest(), peer="w", timeout_s=5) as messages:
            await anext(messages)
            with pytest.raises(Refused):
                await anext(messages)
        await gone(servicer)


async def gone(servicer: FailingServicer) -> None:
    """The handler may end a moment after its caller knows."""
    async with asyncio.timeout(2.0):
        while servicer.held[0]() is not None:
            await asyncio.sleep(0.01)


def test_an_error_that_is_kept_holds_no_frame_and_is_raised_as_another() -> None:
    def fail() -> None:
        held.append(ref(here := Held()))
        assert here is not None
        try:
            raise_late()
        except TimeoutError:
            raise Refused(message="full", retry_after_s=2.0) from None

    def raise_late() -> None:
        raise TimeoutError

    held: list[ref[Held]] = []
    error = None
    try:
        fail()
    except Refused as raised:
        error = kept(raised)
    assert held[0]() is None
    assert error is not None
    with pytest.raises(Refused) as caught:
        raise again(error)
    assert caught.value is not error
    assert caught.value == error
    assert error.__traceback__ is None
