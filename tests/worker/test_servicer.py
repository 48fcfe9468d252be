"""WorkerService over the network in memory."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common.core.clock import SystemClock
from common.core.errors import InvalidRequest, Reason, Unavailable
from common.core.events import StationReached
from common.core.ids import Epoch, RequestId, RouterId, RouterRef
from common.core.worker import WorkerState
from common.rpc.bind import Bind
from common.rpc.client import call, grpc_connect, stream
from common.rpc.convert.events import message_from_wire
from common.rpc.convert.kv import layout_from_wire
from common.rpc.convert.work import router_to_wire
from common.rpc.options import Surface
from common.rpc.server import serve
from common.worker.servicer import CancelItem, WorkerServicer, worker_service
from common.worker.subscriptions import SubscriptionLimits, Subscriptions
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.sim.network import DETECT_S, Network
from tests.sim.timeloop import LoopClock, TimeLoop, simulate
from tests.sim.transport import memory_connect, memory_server
from tests.worker.scene import LAYOUT, WORKER, RecordingCore, load, presence

ROUTER = RouterRef(router=RouterId("router"), epoch=Epoch(3))
SUBSCRIBE = worker_pb2.SubscribeRequest(router=router_to_wire(ROUTER))


class Scene:
    """A worker process that serves, and a router process with a stub."""

    def __init__(self, loop: TimeLoop) -> None:
        self.loop = loop
        self.network = Network(loop)
        self.core = RecordingCore()
        self.presence = presence()
        self.lost: list[RouterRef] = []
        self.subscriptions = Subscriptions(
            WORKER, load=load, on_router_lost=self.lost.append, limits=SubscriptionLimits(max_events=100)
        )
        self.servicer = WorkerServicer(self.core, self.core, self.subscriptions, self.presence, clock=LoopClock(loop))

    async def start(self) -> None:
        self.server = await serve(
            [worker_service(self.servicer)],
            Bind(),
            surface=Surface.INTERNAL,
            with_reflection=False,
            make_server=memory_server(self.network, "worker"),
        )
        channel = memory_connect(self.network, "router")(self.server.address)
        self.stub = worker_pb2_grpc.WorkerServiceStub(channel)


def play(act: Callable[[Scene], Awaitable[None]]) -> None:
    async def program(loop: TimeLoop) -> None:
        scene = Scene(loop)
        await scene.start()
        await act(scene)

    simulate(program)


def station(at: float) -> StationReached:
    return StationReached(request=RequestId("r"), attempt=1, name="running", at=at, facts={"tokens": 4.0})


def test_events_arrive_with_who_sent_them_and_how_long_ago() -> None:
    async def act(it: Scene) -> None:
        await asyncio.sleep(5)
        async with stream(it.stub.Subscribe, SUBSCRIBE, peer="w", timeout_s=None) as responses:
            first = message_from_wire(await anext(responses), now=100.0)
            it.subscriptions.publish({ROUTER: [station(at=4.0)]})
            second = message_from_wire(await anext(responses), now=100.0)
        assert (first.worker, first.events, first.load) == (WORKER, (), load())
        (event,) = second.events
        assert isinstance(event, StationReached)
        assert event.at == pytest.approx(99.0, abs=0.01)

    play(act)


def test_a_router_whose_stream_broke_is_lost_after_the_lease() -> None:
    async def act(it: Scene) -> None:
        async with stream(it.stub.Subscribe, SUBSCRIBE, peer="w", timeout_s=None) as responses:
            await anext(responses)
            await asyncio.sleep(30)
            assert it.lost == []
        await asyncio.sleep(2.9)
        assert it.lost == []
        await asyncio.sleep(0.2)
        assert it.lost == [ROUTER]

    play(act)


def test_a_frozen_router_is_lost_after_ping_timeout_and_lease() -> None:
    async def act(it: Scene) -> None:
        reading = asyncio.create_task(read_all(it))
        await asyncio.sleep(1)
        it.network.freeze("router")
        await asyncio.sleep(DETECT_S[Surface.INTERNAL] + 3.1)
        assert it.lost == [ROUTER]
        it.network.thaw("router")
        with pytest.raises(Unavailable):
            await reading

    play(act)


async def read_all(it: Scene) -> None:
    async with stream(it.stub.Subscribe, SUBSCRIBE, peer="w", timeout_s=None) as responses:
        async for _ in responses:
            pass


def test_a_router_that_reads_nothing_is_a_slow_reader() -> None:
    async def act(it: Scene) -> None:
        running = it.stub.Subscribe(SUBSCRIBE)
        for step in range(300):
            await asyncio.sleep(0.01)
            it.subscriptions.publish({ROUTER: [station(at=step)]})
        assert it.lost[0] == ROUTER
        with pytest.raises(Exception, match="behind"):
            async for _ in running:
                pass

    play(act)


def test_cancels_are_passed_on_with_their_attempts() -> None:
    async def act(it: Scene) -> None:
        items = [
            worker_pb2.CancelItem(request_id="r1", attempt=2, reason="DEADLINE_EXCEEDED"),
            worker_pb2.CancelItem(request_id="r2", attempt=1, reason="A_NEWER_REASON"),
        ]
        request = worker_pb2.CancelWorkRequest(router=router_to_wire(ROUTER), items=items)
        await call(it.stub.CancelWork, request, peer="w", timeout_s=1)
        assert it.core.cancelled == [
            (ROUTER, CancelItem(request=RequestId("r1"), attempt=2, reason=Reason.DEADLINE_EXCEEDED)),
            (ROUTER, CancelItem(request=RequestId("r2"), attempt=1, reason=Reason.CANCELLED)),
        ]

    play(act)


@pytest.mark.parametrize(
    "request_",
    [
        worker_pb2.CancelWorkRequest(),
        worker_pb2.CancelWorkRequest(router=router_to_wire(ROUTER), items=[worker_pb2.CancelItem(attempt=1)]),
        worker_pb2.CancelWorkRequest(
            router=router_to_wire(ROUTER), items=[worker_pb2.CancelItem(request_id="r")] * 5000
        ),
    ],
    ids=["nobody's", "of nothing", "too many"],
)
def test_a_damaged_cancel_is_refused(request_: worker_pb2.CancelWorkRequest) -> None:
    async def act(it: Scene) -> None:
        with pytest.raises(InvalidRequest):
            await call(it.stub.CancelWork, request_, peer="w", timeout_s=1)
        assert it.core.cancelled == []

    play(act)


def test_status_tells_identity_state_layout_load_and_counters() -> None:
    async def act(it: Scene) -> None:
        it.presence.become_ready()
        status = await call(it.stub.GetStatus, worker_pb2.GetStatusRequest(), peer="w", timeout_s=1)
        assert (status.worker.worker_id, status.worker.epoch, status.state) == ("w", 7, "ready")
        assert layout_from_wire(status.layout) == LAYOUT
        assert status.load.total_pages == 8
        assert dict(status.counters) == {"pages_free": 5.0}

    play(act)


def test_drain_stops_new_work_and_reports_what_is_left() -> None:
    async def act(it: Scene) -> None:
        it.presence.become_ready()
        answer = await call(it.stub.Drain, worker_pb2.DrainRequest(grace_ms=1500), peer="w", timeout_s=5)
        assert (answer.active_sequences, it.core.grace_s) == (2, 1.5)
        assert it.presence.state is WorkerState.DRAINING

    play(act)


async def test_over_real_sockets_a_router_that_leaves_is_lost_after_its_lease() -> None:
    lost = asyncio.Event()
    limits = SubscriptionLimits(lease_s=0.2, heartbeat_s=0.05)
    subscriptions = Subscriptions(WORKER, load=load, on_router_lost=lambda _: lost.set(), limits=limits)
    servicer = WorkerServicer(core := RecordingCore(), core, subscriptions, presence(), clock=SystemClock())
    server = await serve([worker_service(servicer)], Bind(), surface=Surface.INTERNAL)
    async with grpc_connect(Surface.INTERNAL)(server.address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        async with stream(stub.Subscribe, SUBSCRIBE, peer="w", timeout_s=None) as responses:
            assert [(await anext(responses)).sequence for _ in range(3)] == [1, 2, 3]
            assert subscriptions.num_live == 1
        await asyncio.wait_for(lost.wait(), 5)
        assert subscriptions.num_live == 0
    await server.stop(0)
