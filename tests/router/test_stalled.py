"""A router that stood still blames nobody for what it did not hear meanwhile; who is silent by itself is found as soon
as ever. Method: the production dispatcher against played workers in virtual time, with pauses of the loop."""

import asyncio

import pytest

from common.core.worker import Role
from tests.router.build import request
from tests.router.cast import Script
from tests.router.house import SUSPECT_S, House, play

STEP_S = 0.05
FULL_BUDGET = 20.0


async def enter(house: House, **scripts: Script) -> None:
    for name in ("d0", "d1"):
        await house.stage.enter(name, Role.DECODE, scripts.get(name, Script(step_s=STEP_S)))
    await asyncio.sleep(0.1)


def placed(house: House) -> int:
    return sum(worker.seen["local"] for worker in house.stage.workers.values())


@pytest.mark.parametrize("stall_s", [1.2, 1.99, 2.5, 6.0])
def test_answers_stay_where_they_are_written(stall_s: float) -> None:
    """Longer than a placement call, than the silence of a worker, and than both together."""

    async def story(house: House) -> None:
        with house.lag:
            await enter(house)
            wanted = request(max_tokens=40)
            house.loop.call_later(0.6, house.loop.stall, stall_s)
            answer = await house.ask(wanted)
            assert answer.is_exact(wanted), answer
            assert placed(house) == 1
            assert {view.is_eligible for view in house.fleet.view().workers} == {True}

    play(story)


@pytest.mark.parametrize("moment_s", [0.0001, 0.0003, 0.0005])
def test_a_placement_whose_answer_was_not_read_in_time_is_no_failure(moment_s: float) -> None:
    """Its deadline passes while the answer is on its way, or in the socket."""

    async def story(house: House) -> None:
        with house.lag:
            await enter(house)
            wanted = [request(f"r{number}") for number in range(30)]
            house.loop.call_later(moment_s, house.loop.stall, 1.5)
            answers = await asyncio.gather(*map(house.ask, wanted))
            assert all(answer.is_exact(each) for answer, each in zip(answers, wanted, strict=True))
            assert placed(house) == len(wanted)
            assert house.track.budget.tokens == FULL_BUDGET

    play(story)


@pytest.mark.parametrize("stall_s", [0.0, 0.5, 1.5])
def test_a_frozen_worker_is_found_in_the_time_that_the_router_had(stall_s: float) -> None:
    async def story(house: House) -> None:
        with house.lag:
            await enter(house)
            wanted = request(max_tokens=60)
            asking = asyncio.create_task(house.ask(wanted))
            await asyncio.sleep(0.5)
            (writer,) = [worker for worker in house.stage.workers.values() if worker.seen["local"]]
            writer.voice.clear()
            if stall_s:
                house.loop.call_later(0.3, house.loop.stall, stall_s)
            began = house.loop.time()
            while placed(house) == 1:
                await asyncio.sleep(0.01)
            assert SUSPECT_S - 0.1 < house.loop.time() - began <= SUSPECT_S + stall_s + 0.1
            writer.voice.set()
            assert (await asking).is_exact(wanted)

    play(story)
