"""A bug on a worker's event loop ends the worker as a failed step does: its cause is told first, and no token is lost.

Production processes over the simulated network; the bug is ours.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from common.transfer.outbound import OutboundTransfer
from common.worker.landing import Lander
from tests.sim.client import Manners
from tests.sim.play import play
from tests.sim.test_drain_prefill import NARROW, prompts
from tests.sim.world import CONFIG, World

BUG = "a bug of the test"


@pytest.fixture
def breaks_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sixth call ends with what no code expects; those after it go well again."""
    owner, name = request.param
    sound, calls = getattr(owner, name), iter(range(1_000_000))

    async def broken(self: object, *arguments: object) -> object:
        if next(calls) == 5:
            raise ZeroDivisionError(BUG)
        return await sound(self, *arguments)

    monkeypatch.setattr(owner, name, broken)
    yield
    assert next(calls) > 5, "it broke"


@pytest.mark.parametrize(
    ("breaks_once", "role"),
    [((OutboundTransfer, "ship"), "prefill"), ((Lander, "_land"), "decode")],
    indirect=["breaks_once"],
    ids=["prefill", "decode"],
)
@pytest.mark.usefixtures("breaks_once")
def test_the_first_word_of_a_workers_end_is_its_cause(role: str) -> None:
    async def story(world: World) -> None:
        actors = dict(world.workers)
        for number, ask in enumerate(prompts(8, length=120)):
            world.ask(ask, Manners(starts_at=0.05 * number))
        ends = {actor.main: name for name, actor in actors.items()}
        (over,), _ = await asyncio.wait(ends, timeout=60.0, return_when=asyncio.FIRST_COMPLETED)
        assert ends[over].startswith(role)
        world.start(ends[over])
        words = [line for line in world.trace.lines if "worker_failed" in line]
        assert BUG in words[0], words
        world.trace.bugs.clear()

    play(story, prefill=2, decode=2, config=replace(NARROW, router=CONFIG.router))
