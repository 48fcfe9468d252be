"""Goal: whoever asks is served, refused, or told to ask elsewhere. Method: the production dispatcher against
played workers, in virtual time; every story ends with a check that no work is left on any worker and no counter is off.
"""

import asyncio
from dataclasses import replace

import pytest

from common.core.errors import (
    AlreadyExists,
    Cancelled,
    ContextLengthExceeded,
    InternalError,
    Reason,
    Unavailable,
)
from common.core.ids import TenantId
from common.core.worker import Role, WorkerState
from tests.router.build import request
from tests.router.cast import Script
from tests.router.crowd import LONG, enter, seen
from tests.router.house import House, play


@pytest.mark.parametrize(("prompt", "n"), [(LONG, 1), (LONG, 4), (8, 1), (8, 3)])
def test_a_request_is_answered_exactly(prompt: int, n: int) -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=prompt, n=n)
        answer = await house.ask(wanted)
        assert answer.is_exact(wanted), answer
        assert seen(house, "prefill") == (prompt == LONG)
        assert seen(house, "cancel") == 0, "a request that ended well needs no cancel"

    play(story)


def test_duplicated_events_are_dropped() -> None:
    async def story(house: House) -> None:
        await enter(house, p0=Script(repeats=3), p1=Script(repeats=3), d0=Script(repeats=3), d1=Script(repeats=3))
        wanted = request(prompt=LONG, n=2)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


def test_a_new_request_is_told_after_a_grace_that_nobody_is_there() -> None:
    async def story(house: House) -> None:
        answer = await house.ask(request())
        assert isinstance(answer.error, Unavailable)
        assert house.loop.time() == pytest.approx(10.0)
        answer = await house.ask(request(received=10.0, deadline=70.0))
        assert isinstance(answer.error, Unavailable)
        assert house.loop.time() == pytest.approx(10.0), "the next one is told at once"

    play(story)


def test_no_pages_on_one_worker_goes_to_the_next() -> None:
    async def story(house: House) -> None:
        await enter(house, d0=Script(refusals=1))
        wanted = request(prompt=LONG)
        answer = await house.ask(wanted)
        assert answer.is_exact(wanted)
        assert house.stage.workers["d1"].seen["reserve"] == 1

    play(story)


def test_prompts_that_come_at_once_are_read_side_by_side() -> None:
    """The second one is routed before anybody has promised pages for the first."""

    async def story(house: House) -> None:
        await enter(house, decodes=1)
        first, second = request("first", prompt=LONG), request("second", prompt=LONG)
        second = replace(second, prompt=second.prompt[::-1])  # else it would follow its sibling
        answers = await asyncio.gather(house.ask(first), house.ask(second))
        assert [answer.is_exact(wanted) for answer, wanted in zip(answers, (first, second), strict=True)] == [True] * 2
        assert [house.stage.workers[name].seen["prefill"] for name in ("p0", "p1")] == [1, 1]

    play(story)


def test_a_reader_that_was_not_asked_yet_hears_of_no_end() -> None:
    """Its work counted when the route was chosen; then no decode worker had room."""

    async def story(house: House) -> None:
        await enter(house, decodes=1, d0=Script(refusals=3))
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert [house.stage.workers[name].seen["cancel"] for name in ("p0", "p1")] == [0, 0]

    play(story)


def test_no_pages_anywhere_waits_and_costs_no_attempt() -> None:
    async def story(house: House) -> None:
        await enter(house, decodes=1, d0=Script(refusals=12))
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


def test_a_refusal_is_asked_about_again_without_waiting_for_a_heartbeat() -> None:
    async def story(house: House) -> None:
        await enter(house, decodes=1, d0=Script(refusals=3))
        wanted = request(prompt=8, max_tokens=2)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert house.loop.time() < 1.0, "three refusals are worth 50, 100 and 200 ms, not a heartbeat each"

    play(story)


def test_a_full_prefill_worker_is_waited_for() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1, p0=Script(refusals=3))
        wanted = request(prompt=LONG)
        assert (await house.ask(wanted)).is_exact(wanted)
        assert seen(house, "local") == 0

    play(story)


def test_the_same_id_twice_at_once_is_refused_and_free_again_afterwards() -> None:
    async def story(house: House) -> None:
        await enter(house)
        first = asyncio.create_task(house.ask(request("same", prompt=LONG)))
        await asyncio.sleep(0.01)
        assert isinstance((await house.ask(request("same"))).error, AlreadyExists)
        assert (await first).error is None
        assert (await house.ask(request("same"))).error is None

    play(story)


def test_tenants_who_chose_the_same_id_are_both_served_and_cancel_their_own() -> None:
    async def story(house: House) -> None:
        await enter(house)
        mine, theirs = request("same", prompt=LONG), replace(request("same", prompt=LONG), tenant=TenantId("other"))
        first = asyncio.create_task(house.ask(mine))
        second = asyncio.create_task(house.ask(theirs))
        await asyncio.sleep(0.01)
        house.dispatcher.cancel(theirs.id, theirs.tenant)
        assert isinstance((await second).error, Cancelled)
        assert (await first).is_exact(mine)

    play(story)


def test_a_draining_worker_finishes_what_it_has_and_gets_nothing_new() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1)
        wanted = request("first", prompt=LONG, max_tokens=50)
        first = asyncio.create_task(house.ask(wanted))
        await asyncio.sleep(0.05)
        drained = house.stage.workers["d0"]
        assert drained.seen["reserve"] == 1
        drained.state = WorkerState.DRAINING
        house.stage.mirror.put(drained.member())
        await asyncio.sleep(0.01)
        second = request("second", prompt=LONG)
        assert (await house.ask(second)).is_exact(second)
        assert (await first).is_exact(wanted)
        third = request("third", prompt=LONG)
        assert (await house.ask(third)).is_exact(third)
        assert drained.seen["reserve"] == 1, "idle again, and first by id"

    play(story)


def test_with_the_directory_away_living_streams_keep_serving() -> None:
    async def story(house: House) -> None:
        await enter(house)
        house.stage.mirror.is_stale = True
        for name in list(house.stage.mirror.listed):
            house.stage.mirror.remove(name)
        await asyncio.sleep(5)
        wanted = request(prompt=LONG, received=5.0)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


def test_a_request_that_can_never_fit_is_refused_at_once() -> None:
    async def story(house: House) -> None:
        await house.stage.enter("d0", Role.DECODE, pages=10)
        await asyncio.sleep(0.1)
        answer = await house.ask(request(prompt=LONG, max_tokens=100))
        assert isinstance(answer.error, ContextLengthExceeded)

    play(story)


def test_drain_lets_running_requests_finish_and_refuses_new_ones() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request("old", prompt=LONG)
        old = asyncio.create_task(house.ask(wanted))
        await asyncio.sleep(0.01)
        async with asyncio.TaskGroup() as group:
            group.create_task(house.dispatcher.drain(30.0, hurry=asyncio.Event()))
            await asyncio.sleep(0)
            refused = await house.ask(request("new"))
        assert isinstance(refused.error, Unavailable)
        assert refused.error.reason is Reason.DRAINING
        assert (await old).is_exact(wanted)

    play(story)


@pytest.mark.parametrize("grace_s", [0.2, 30.0])
def test_what_is_left_when_a_drain_ends_is_told_to_ask_again(grace_s: float) -> None:
    """Its time is over, or somebody insists."""

    async def story(house: House) -> None:
        await enter(house)
        hurry = asyncio.Event()
        old = asyncio.create_task(house.ask(request("old", prompt=LONG, max_tokens=400)))
        await asyncio.sleep(0.01)
        draining = asyncio.create_task(house.dispatcher.drain(grace_s, hurry=hurry))
        await asyncio.sleep(0.3)
        hurry.set()
        await draining
        error = (await old).error
        assert isinstance(error, Unavailable)
        assert error.reason is Reason.DRAINING

    play(story)


@pytest.mark.parametrize("prompt", [8, LONG])
def test_a_poison_request_visits_two_workers_and_no_more(prompt: int) -> None:
    async def story(house: House) -> None:
        bad = {name: Script(internal_errors=99) for name in ("p0", "p1", "p2", "d0", "d1", "d2")}
        await enter(house, prefills=3, decodes=3, **bad)
        answer = await house.ask(request(prompt=prompt))
        assert isinstance(answer.error, InternalError)
        assert answer.error.reason is Reason.POISON_REQUEST
        assert sum(99 - worker.script.internal_errors for worker in house.stage.workers.values()) == 2

    play(story)


def test_one_internal_error_is_retried_elsewhere() -> None:
    async def story(house: House) -> None:
        await enter(house, d0=Script(internal_errors=1))
        wanted = request(prompt=8)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)
