"""A decode worker drains while it writes: its answers go on elsewhere with their pages, token for token.

Production routers and workers over the simulated network. Every story ends with the world's own invariants: nothing is
held anywhere, pages sum, transfers balance, every stream is exact.
"""

import asyncio
from dataclasses import replace

import pytest

from common.core.errors import DeadlineExceeded
from common.rpc.client import call
from common.transfer.scope import outlast
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.sim.cast import HOST, WorkerActor
from tests.sim.client import Manners
from tests.sim.oracle import Ask
from tests.sim.play import play
from tests.sim.transport import memory_connect
from tests.sim.world import CONFIG, World

GRACE_S = 5.0
ROOMY = replace(
    CONFIG,
    engine=replace(CONFIG.engine, num_pages=2048, max_sequences=64, max_batch_tokens=64),
    router=replace(CONFIG.router, max_buffered_tokens=512),
)
LONG = Ask(name="long", prompt=tuple(range(30)), max_tokens=320)
"""More than six seconds of steps: longer than the grace."""


def longs(count: int, *, n: int = 1, temperature: float = 0.0) -> list[Ask]:
    """Answers that no two workers write from one cache."""
    return [
        replace(
            LONG, name=f"long-{number}", prompt=tuple(range(number, number + 30)), n=n, temperature=temperature, seed=9
        )
        for number in range(count)
    ]


def counted(worker: WorkerActor, name: str) -> float:
    assert worker.node is not None
    return worker.node.counters()[name]


def running_on(world: World, name: str) -> int:
    node = world.workers[name].node
    return node.look().load.running_sequences if node is not None else 0


def busiest(world: World) -> str:
    return max(("decode-0", "decode-1"), key=lambda name: running_on(world, name))


async def leave(world: World, name: str) -> WorkerActor:
    """SIGTERM; the incarnation that left. Its successor comes at once."""
    leaving = world.workers[name]
    began = world.loop.time()
    await world.retire(name)
    took_s = world.loop.time() - began
    assert took_s <= GRACE_S + 1.0, f"the drain took {took_s:.2f} s"
    world.start(name)
    return leaving


@pytest.mark.parametrize(("n", "temperature"), [(1, 0.0), (2, 1.0)])
def test_answers_longer_than_the_grace_move_with_their_pages(n: int, temperature: float) -> None:
    async def story(world: World) -> None:
        for ask in longs(8, n=n, temperature=temperature):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        left, stayed = world.workers["decode-0"], world.workers["decode-1"]
        running = running_on(world, "decode-0")
        before = counted(stayed, "landed_bytes")
        assert running > 0
        await leave(world, "decode-0")
        assert counted(left, "kept") == running
        assert counted(left, "cut") == 0
        page_bytes = left.engine.layout.page_bytes
        assert counted(stayed, "landed_bytes") - before >= running * 8 * page_bytes, "pages came from the other worker"
        assert counted(stayed, "local_prompt_tokens") == 0, "nothing was read again"

    play(story, prefill=1, decode=2, config=ROOMY)


def test_with_nowhere_to_go_answers_stay_until_the_grace_is_over_and_go_on_afterwards() -> None:
    """The only decode worker leaves: what is left is cut, told, and read again by its successor."""

    async def story(world: World) -> None:
        for ask in longs(3):
            world.ask(ask, Manners())
        await asyncio.sleep(1.0)
        left = await leave(world, "decode-0")
        assert (counted(left, "kept"), counted(left, "cut")) == (0, 3)

    play(story, prefill=1, decode=1, config=ROOMY)


@pytest.mark.parametrize("fault", ["drop", "flip"])
def test_pages_that_do_not_arrive_are_computed_again(fault: str) -> None:
    """Every run between workers is lost or damaged while the answers move."""

    async def story(world: World) -> None:
        for ask in longs(6):
            world.ask(ask, Manners())
        await asyncio.sleep(1.5)
        setattr(world.data.faults, fault, 1.0)
        leaving = asyncio.create_task(leave(world, busiest(world)))
        await asyncio.sleep(1.2)
        setattr(world.data.faults, fault, 0.0)
        left = await leaving
        assert counted(left, "kept") > 0

    play(story, prefill=1, decode=2, config=ROOMY)


def test_a_second_signal_ends_the_grace() -> None:
    async def story(world: World) -> None:
        for ask in longs(3):
            world.ask(ask, Manners())
        await asyncio.sleep(1.0)
        leaving = world.workers["decode-0"]
        began = world.loop.time()
        drained = asyncio.create_task(world.retire("decode-0"))
        await asyncio.sleep(0.3)
        leaving.farewell.hear()
        await drained
        assert world.loop.time() - began < 1.5
        assert counted(leaving, "cut") == 3
        world.start("decode-0")

    play(story, prefill=1, decode=1, config=ROOMY)


def test_a_worker_that_was_asked_to_drain_leaves_though_nobody_waits_for_it() -> None:
    """Who asked hung up. An incarnation that drains takes no work any more: it may not stay."""

    async def story(world: World) -> None:
        for ask in longs(3):
            world.ask(ask, Manners())
        await asyncio.sleep(1.0)
        leaving = world.workers["decode-0"]
        leaving.is_told_to_stop = True
        stub = worker_pb2_grpc.WorkerServiceStub(memory_connect(world.network, "operator")(f"{HOST}:{leaving.port}"))
        with pytest.raises(DeadlineExceeded):
            await call(stub.Drain, worker_pb2.DrainRequest(grace_ms=60_000), peer="decode-0", timeout_s=0.3)
        await asyncio.wait({leaving.main}, timeout=GRACE_S + 1.0)
        assert leaving.main.done(), "it drains for ever"
        await world.retire("decode-0")
        world.start("decode-0")

    play(story, prefill=1, decode=1, config=ROOMY)


def test_pages_that_are_copied_out_when_a_worker_ends_do_not_keep_it() -> None:
    """A push that was cancelled waits for the step loop: its buffer is not free before. So the loop must still turn."""

    async def story(world: World) -> None:
        leaving = world.workers["decode-0"]
        assert leaving.node is not None
        turns = leaving.node.turns

        async def push() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await outlast(turns.call(lambda: None))

        leaving.node.endpoint._scope.spawn(push(), name="push")
        await world.retire("decode-0")
        world.start("decode-0")

    play(story, prefill=1, decode=1)


def test_a_client_that_leaves_while_its_answer_moves_leaves_nothing_behind() -> None:
    """At many moments of the move: asked for, kept, reserved elsewhere, on its way. The world checks what is held."""
    for step in range(12):

        async def story(world: World, at_s: float = 1.5 + 0.01 * step) -> None:
            for ask in longs(2):
                world.ask(ask, Manners(leaves_at=at_s))
            await asyncio.sleep(1.48)
            await leave(world, busiest(world))

        play(story, seed=step, prefill=1, decode=2, config=ROOMY)
