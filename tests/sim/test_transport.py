"""The transport in memory behaves as grpc.aio does where Baton looks, and breaks in the ways that networks break."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from common.core.errors import BatonError, DeadlineExceeded, MalformedMessage, Refused, Unavailable, Unsupported
from common.rpc.bind import Bind
from common.rpc.client import Connect, call, grpc_connect, stream
from common.rpc.deadline import DEADLINE_KEY
from common.rpc.options import Surface
from common.rpc.server import MakeServer, RpcServer, make_grpc_server, serve
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.rpc.process import PickyServicer, worker_service
from tests.sim.network import DETECT_S, Network
from tests.sim.timeloop import TimeLoop, simulate
from tests.sim.transport import memory_connect, memory_server

EMPTY = worker_pb2.GetStatusRequest()
NOBODY = worker_pb2.DrainRequest()
FOREVER = worker_pb2.SubscribeRequest()


class Scene:
    """One worker that serves, and a stub at the client's end."""

    def __init__(self, server: RpcServer, servicer: PickyServicer, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.servicer = servicer
        self.channel = channel
        self.stub = worker_pb2_grpc.WorkerServiceStub(channel)


Act = Callable[[Scene], Awaitable[None]]
FaultAct = Callable[[Scene, Network, TimeLoop], Awaitable[None]]


async def _play(act: Act, make_server: MakeServer, connect: Connect) -> None:
    servicer = PickyServicer()
    server = await serve(
        [worker_service(servicer)], Bind(), surface=Surface.CLIENT, make_server=make_server, with_reflection=False
    )
    async with connect(server.address) as channel:
        await act(Scene(server, servicer, channel))
    await server.stop(0)


def play_real(act: Act) -> None:
    asyncio.run(_play(act, make_grpc_server, grpc_connect(Surface.CLIENT)))


def play_memory(act: Act) -> None:
    play_faults(lambda scene, network, loop: act(scene))


def play_faults(act: FaultAct) -> None:
    async def program(loop: TimeLoop) -> None:
        network = Network(loop)
        await _play(
            lambda scene: act(scene, network, loop), memory_server(network, "worker"), memory_connect(network, "router")
        )
        await asyncio.sleep(1)
        assert not network.calls, "calls are left on the network"

    simulate(program, limit_s=1000)


both = pytest.mark.parametrize("play", [play_real, play_memory], ids=["real", "memory"])
Play = Callable[[Act], None]


async def error_of(reason: str, scene: Scene) -> BatonError:
    request = worker_pb2.CancelWorkRequest(items=[worker_pb2.CancelItem(reason=reason)])
    with pytest.raises(BatonError) as caught:
        await call(scene.stub.CancelWork, request, peer="w", timeout_s=5)
    return caught.value


@both
def test_an_answer_arrives_with_trailing_metadata(play: Play) -> None:
    async def act(scene: Scene) -> None:
        running = scene.stub.GetStatus(EMPTY, timeout=5)
        assert (await running).state == "ready"
        assert DEADLINE_KEY in dict(await running.trailing_metadata())
        assert await running.code() is grpc.StatusCode.OK

    play(act)


@both
def test_a_rich_error_arrives_whole(play: Play) -> None:
    async def act(scene: Scene) -> None:
        error = await error_of("refused", scene)
        assert isinstance(error, Refused)
        assert (error.retry_after_s, error.quota_subject) == (2.5, "tenant:a")
        assert str(await error_of("bug", scene)).startswith("internal error err-")

    play(act)


@both
def test_a_channel_closed_under_a_call_is_a_lost_peer_not_a_cancelled_caller(play: Play) -> None:
    async def act(scene: Scene) -> None:
        waiting = asyncio.create_task(call(scene.stub.Drain, NOBODY, peer="w", timeout_s=60))
        await asyncio.sleep(0.1)
        await scene.channel.close(grace=None)
        with pytest.raises(Unavailable, match="closed"):
            await waiting

    play(act)


@both
def test_undecodable_unknown_and_oversized_are_told_apart(play: Play) -> None:
    async def act(scene: Scene) -> None:
        garbage = scene.channel.unary_unary("/baton.v1.WorkerService/CancelWork")
        with pytest.raises(MalformedMessage):
            await call(garbage, b"\xff\xff", peer="w", timeout_s=5)
        with pytest.raises(Unsupported):
            await call(scene.channel.unary_unary("/baton.v1.WorkerService/No"), b"", peer="w", timeout_s=5)

    play(act)


@both
@pytest.mark.parametrize(("router", "outcome"), [("fails", Refused), ("ends", None)])
def test_a_stream_delivers_all_and_then_its_outcome(play: Play, router: str, outcome: type[BatonError] | None) -> None:
    async def act(scene: Scene) -> None:
        request = worker_pb2.SubscribeRequest(router={"router_id": router})
        seen: list[int] = []
        raised = None
        try:
            async with stream(scene.stub.Subscribe, request, peer="w", timeout_s=5) as responses:
                seen.extend([response.sequence async for response in responses])
        except BatonError as error:
            raised = type(error)
        assert raised is outcome
        assert seen == ([] if outcome else [1, 2, 3])

    play(act)


@both
def test_leaving_a_stream_cancels_its_handler(play: Play) -> None:
    async def act(scene: Scene) -> None:
        async with stream(scene.stub.Subscribe, FOREVER, peer="w", timeout_s=None) as responses:
            assert (await anext(responses)).sequence == 1
        await asyncio.wait_for(scene.servicer.over.wait(), 1)

    play(act)


@both
def test_cancelling_the_waiting_task_cancels_the_handler(play: Play) -> None:
    async def act(scene: Scene) -> None:
        waiting = asyncio.create_task(call(scene.stub.Drain, NOBODY, peer="w", timeout_s=60))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(scene.servicer.over.wait(), 1)

    play(act)


@both
@pytest.mark.parametrize("timeout_s", [0.2, 0.0])
def test_a_deadline_ends_both_halves(play: Play, timeout_s: float) -> None:
    async def act(scene: Scene) -> None:
        with pytest.raises(DeadlineExceeded):
            await call(scene.stub.Drain, NOBODY, peer="w", timeout_s=timeout_s)
        if timeout_s:
            await asyncio.wait_for(scene.servicer.over.wait(), 1)

    play(act)


@both
def test_a_stopped_server_tells_running_calls_and_refuses_new_ones(play: Play) -> None:
    async def act(scene: Scene) -> None:
        waiting = asyncio.create_task(call(scene.stub.Drain, NOBODY, peer="w", timeout_s=60))
        await asyncio.sleep(0.1)
        await scene.server.stop(0.1)
        with pytest.raises(Unavailable, match="stopping"):
            await waiting
        with pytest.raises(Unavailable):
            await call(scene.stub.GetStatus, EMPTY, peer="w", timeout_s=5)

    play(act)


@contextmanager
def unavailable(why: str) -> Iterator[None]:
    """What the transport said is in the cause."""
    with pytest.raises(Unavailable) as caught:
        yield
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
    assert why in (caught.value.__cause__.details() or "")


def test_a_killed_server_resets_its_calls_at_once() -> None:
    async def act(scene: Scene, network: Network, loop: TimeLoop) -> None:
        waiting = asyncio.create_task(call(scene.stub.Drain, NOBODY, peer="w", timeout_s=60))
        await asyncio.sleep(1)
        network.kill("worker")
        with unavailable("reset"):
            await waiting
        assert loop.time() == pytest.approx(1, abs=0.01)
        with unavailable("refused"):
            await call(scene.stub.GetStatus, EMPTY, peer="w", timeout_s=5)

    play_faults(act)


def test_a_killed_client_ends_its_handlers() -> None:
    async def act(scene: Scene, network: Network, loop: TimeLoop) -> None:
        running = scene.stub.Subscribe(FOREVER)
        await running.read()
        network.kill("router")
        await asyncio.wait_for(scene.servicer.over.wait(), 0.1)

    play_faults(act)


@pytest.mark.parametrize("fault", ["freeze", "cut", "cut one way"])
def test_a_silent_peer_is_given_up_after_ping_and_timeout(fault: str) -> None:
    async def act(scene: Scene, network: Network, loop: TimeLoop) -> None:
        waiting = asyncio.create_task(call(scene.stub.Drain, NOBODY, peer="w", timeout_s=60))
        await asyncio.sleep(1)
        if fault == "freeze":
            network.freeze("worker")
        else:
            network.cut("worker", "router", both_ways=fault == "cut")
        with unavailable("ping timeout"):
            await waiting
        assert loop.time() == pytest.approx(1 + DETECT_S[Surface.CLIENT], abs=0.01)
        with pytest.raises(Unavailable):
            await call(scene.stub.GetStatus, EMPTY, peer="w", timeout_s=60)
        assert loop.time() == pytest.approx(1 + 2 * DETECT_S[Surface.CLIENT], abs=0.01)
        network.thaw("worker")
        network.heal("worker", "router")
        await call(scene.stub.GetStatus, EMPTY, peer="w", timeout_s=60)

    play_faults(act)


def test_a_short_cut_delays_and_loses_nothing() -> None:
    async def act(scene: Scene, network: Network, loop: TimeLoop) -> None:
        async with stream(scene.stub.Subscribe, FOREVER, peer="w", timeout_s=None) as responses:
            await anext(responses)
            network.cut("router", "worker")
            loop.call_later(1, network.heal, "router", "worker")
            seen = [(await anext(responses)).sequence for _ in range(50)]
        assert seen == list(range(2, 52))
        assert loop.time() > 1

    play_faults(act)


def test_the_writer_waits_for_a_reader_that_is_behind() -> None:
    async def act(scene: Scene, network: Network, loop: TimeLoop) -> None:
        running = scene.stub.Subscribe(FOREVER)
        before = network.num_packets
        await asyncio.sleep(60)
        assert network.num_packets - before < 30
        assert [(await running.read()).sequence for _ in range(100)] == list(range(1, 101))
        running.cancel()

    play_faults(act)


def test_messages_keep_their_order_whatever_the_delay() -> None:
    async def act(scene: Scene, network: Network, loop: TimeLoop) -> None:
        network.delay = lambda source, destination: loop.random.random()
        async with stream(scene.stub.Subscribe, FOREVER, peer="w", timeout_s=None) as responses:
            assert [(await anext(responses)).sequence for _ in range(50)] == list(range(1, 51))

    play_faults(act)
