"""gRPC's completions wake the loop once for all that came."""

import asyncio
import socket
from collections.abc import Callable
from functools import partial

import grpc
import pytest

from common.observe import event_loop
from common.observe.event_loop import EventLoop, take_all

NUM_CALLS = 200


def test_completions_that_come_together_wake_the_loop_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred calls are answered in one turn of the server. Each call is six completions or more on this side and
    that: taken one by one they are over a thousand wakes."""
    num_wakes = 0

    def counted(wakes: socket.socket, handle: Callable[[], object]) -> None:
        nonlocal num_wakes
        num_wakes += 1
        take_all(wakes, handle)

    monkeypatch.setattr(event_loop, "take_all", counted)
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(_answer_together())
    assert 0 < num_wakes < 2 * NUM_CALLS


async def _answer_together() -> None:
    server = grpc.aio.server()
    is_time, num_waiting = asyncio.Event(), 0

    async def answer(request: bytes, context: object) -> bytes:
        nonlocal num_waiting
        num_waiting += 1
        if num_waiting == NUM_CALLS:
            is_time.set()
        await is_time.wait()
        return request

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Answer": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Bulk", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Bulk/Answer")
        async with asyncio.timeout(20.0):
            answers = await asyncio.gather(*(ask(bytes([number])) for number in range(NUM_CALLS)))
    assert answers == [bytes([number]) for number in range(NUM_CALLS)]
    await server.stop(None)


def test_one_byte_is_left_for_the_handler() -> None:
    """It reads one, without waiting, and fails where there is none."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        for num_wakes in (1, 2, 500):
            theirs.sendall(b"1" * num_wakes)
            take_all(ours, partial(_read_one, ours))
            with pytest.raises(BlockingIOError):
                ours.recv(1)


def _read_one(wakes: socket.socket) -> None:
    assert wakes.recv(1) == b"1"


def test_other_readers_are_left_alone() -> None:
    """A callback that is not gRPC's sees every byte."""
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(_read_as_it_comes()) == b"abc"


async def _read_as_it_comes() -> bytes:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[bytes] = loop.create_future()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, lambda: came.set_result(ours.recv(10)))
        theirs.sendall(b"abc")
        async with asyncio.timeout(5.0):
            told = await came
        loop.remove_reader(ours)
    return told
