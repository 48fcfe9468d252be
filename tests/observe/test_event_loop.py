"""gRPC's completions wake the loop once for all that came, and its poller runs ahead by a few."""

import array
import asyncio
import fcntl
import socket
import termios
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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


def _num_unread(wakes: socket.socket) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(wakes.fileno(), termios.FIONREAD, count)
    return count[0]


def test_a_poller_ahead_of_a_busy_loop_is_stuck_after_a_few_wakes_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two hundred messages are handed over in one turn, which then goes on: the poller would wake for each of them."""
    seen: list[socket.socket] = []

    def noted(wakes: socket.socket, handle: Callable[[], object]) -> None:
        seen.append(wakes)
        take_all(wakes, handle)

    monkeypatch.setattr(event_loop, "take_all", noted)

    def write(contexts: Sequence[Any]) -> "Writes":
        writes = [_begun(context) for context in contexts]
        deadline = time.monotonic() + 60.0
        while _num_unread(seen[-1]) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)  # the loop is busy
        time.sleep(0.2)
        assert 10 <= _num_unread(seen[-1]) <= 60
        return writes

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(_write_together(write, NUM_CALLS))


def test_a_loop_that_writes_some_messages_wakes_the_poller_for_all_of_them_at_once() -> None:
    """A dozen messages, and after each the poller has time to wake: it would for each, and meet the loop's lock. What
    counts is how often its thread slept; every completion is heard of all the same."""
    num_sleeps = 0

    def write(contexts: Sequence[Any]) -> "Writes":
        nonlocal num_sleeps
        before = _sleeps_of_poller()
        with event_loop.writing(len(contexts)):
            writes = [_begun(context, pause_s=0.02) for context in contexts]
        num_sleeps = _sleeps_of_poller() - before
        return writes

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(_write_together(write, 12))
    assert num_sleeps <= 6


Writes = Sequence[tuple[Any, Awaitable[object]]]
"""Writes that are begun, and what each waits for."""


def _begun(context: Any, pause_s: float = 0.0) -> tuple[Any, Awaitable[object]]:
    write = context.write(b"token")
    taken = write.send(None)
    time.sleep(pause_s)
    return write, taken


def _sleeps_of_poller() -> int:
    """How often gRPC's poller gave its core away by itself."""
    [poller] = [each for each in threading.enumerate() if "poll_wrapper" in each.name]
    status = Path(f"/proc/self/task/{poller.native_id}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


async def _write_together(write: Callable[[Sequence[Any]], Writes], num_calls: int) -> None:
    """Calls that are all answered with two messages, the second in one turn of the loop, by `write`."""
    server = grpc.aio.server()
    contexts: list[Any] = []
    everybody, is_over = asyncio.Event(), asyncio.Event()

    async def answer(request: bytes, context: object) -> None:
        contexts.append(context)
        if len(contexts) == num_calls:
            everybody.set()
        await is_over.wait()

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Answer": grpc.unary_stream_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Bulk", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with asyncio.timeout(20.0), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Bulk/Answer")
        calls = [ask(b"") for _ in range(num_calls)]
        await everybody.wait()
        await asyncio.gather(*(context.write(b"head") for context in contexts))
        writes = write(contexts)
        await asyncio.wait([asyncio.ensure_future(_taken(taken)) for _write, taken in writes])
        is_over.set()
        assert [[message async for message in call] for call in calls] == [[b"head", b"token"]] * num_calls
        for begun, _taken_by in writes:
            begun.close()
    await server.stop(None)


async def _taken(future: Awaitable[object]) -> None:
    await future


@dataclass(slots=True)
class PollerCompletionQueue:
    """As gRPC's: the handler's owner holds both ends."""

    wakes: socket.socket
    written: socket.socket

    def handle(self, _loop: object) -> None:
        self.wakes.recv(1)


@pytest.mark.parametrize("leaves", [EventLoop.close, None], ids=["closed", "reader removed"])
def test_a_poller_that_nobody_reads_any_more_is_not_left_stuck(leaves: Callable[[EventLoop], None] | None) -> None:
    """When gRPC shuts down it waits for its poller, which tells of everything that is still under way."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        loop, owner = EventLoop(), PollerCompletionQueue(ours, theirs)
        loop.add_reader(ours, partial(owner.handle, loop))
        poller = threading.Thread(target=lambda: [theirs.send(b"1") for _ in range(100)], daemon=True)
        poller.start()
        poller.join(0.2)
        assert poller.is_alive(), "stuck, as it should be while the loop is busy"
        if leaves is None:
            loop.remove_reader(ours)
        else:
            leaves(loop)
        poller.join(60.0)
        assert not poller.is_alive()
        loop.close()


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


def test_a_name_whose_look_up_hangs_takes_one_thread_however_often_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS is away. Who connects to Redis gives up in a moment and tries again. Pages are copied on these threads."""
    asked: list[str] = []
    is_back = threading.Event()

    def look_up(host: str, *_: object) -> list[tuple[str, str]]:
        asked.append(host)
        assert is_back.wait(30)
        return [("address", host)]

    async def live_without_dns() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(64):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await loop.getaddrinfo("redis", 6379)
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(lambda: "copied") == "copied"
        assert asked == ["redis"]
        waiting = asyncio.ensure_future(loop.getaddrinfo("redis", 6379))
        await asyncio.sleep(0)
        is_back.set()
        assert await waiting == await loop.getaddrinfo("redis", 6379)
        assert asked == ["redis", "redis"], "an answer is not kept"

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        try:
            runner.run(live_without_dns())
        finally:
            is_back.set()


def test_a_look_up_that_fails_is_told_to_all_who_wait_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    num_asked = 0

    def look_up(*_: object) -> None:
        nonlocal num_asked
        num_asked += 1
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        told = await asyncio.gather(*(loop.getaddrinfo("redis", 1) for _ in range(8)), return_exceptions=True)
        assert [type(each) for each in told] == [socket.gaierror] * 8
        assert num_asked == 1
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("redis", 1)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(ask())
