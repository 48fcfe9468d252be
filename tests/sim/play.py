"""Runs one story in a simulated cluster to its end: clients judged, everything at rest, everybody stopped."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.sim import invariants
from tests.sim.timeloop import TimeLoop, simulate
from tests.sim.trace import Trace
from tests.sim.world import World, world

Story = Callable[[World], Awaitable[None]]
LIMIT_S = 1500.0


def play(story: Story, *, seed: int = 0, **options: object) -> Trace:
    """What happened. On failure the seed and the end of the trace are printed."""
    traces: list[Trace] = []

    async def program(loop: TimeLoop) -> None:
        async with world(loop, **options) as made:
            traces.append(made.trace)
            await story(made)
            await made.wait_clients()
            made.check_clients()
            await invariants.settle(made)
            invariants.check(made)
            invariants.count(made)
            await _stop_all(made)

    try:
        simulate(program, seed=seed, limit_s=LIMIT_S)
    except BaseException as error:
        for trace in traces:
            print(trace.tail())
            if trace.bugs:
                raise AssertionError("\n".join(trace.bugs)) from error
        raise
    return traces[0]


async def _stop_all(made: World) -> None:
    """Routers first, as `baton up` does it; nobody may leave anything behind."""
    for name in reversed(made.names):
        await made.retire(name)
    assert not made.trace.bugs, made.trace.bugs
    await asyncio.sleep(5.0)
    left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left, f"tasks are left: {left}"
    assert not made.network.calls, f"calls are left: {[call.method for call in made.network.calls]}"
