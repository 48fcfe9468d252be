"""Goal: an answer that ends, however it ends, ends everywhere. Method: the production dispatcher against
played workers, in virtual time; every story ends with a check that no work is left on any worker and no counter is off.
"""

import asyncio
from collections.abc import Callable

import pytest

from common.core.errors import (
    Cancelled,
    DeadlineExceeded,
    NotFound,
    Reason,
    Refused,
    Unavailable,
)
from common.core.ids import RequestId
from common.core.request import FinishReason
from services.router.journey import Journey
from tests.router.build import request, spelled_text
from tests.router.cast import Script
from tests.router.crowd import LONG, TENANT, enter, seen
from tests.router.house import House, play


def test_a_choice_whose_text_ended_before_decode_began_is_ended_there() -> None:
    async def story(house: House) -> None:
        await enter(house, prefills=1, decodes=1)
        wanted = request(prompt=LONG, n=2, max_tokens=20)
        answer = await house.ask(wanted, stops=("1000",))
        assert answer.finishes == {0: FinishReason.STOP, 1: FinishReason.LENGTH}
        assert house.stage.workers["d0"].ended == [(0,)]

    play(story)


@pytest.mark.parametrize("after_ms", [0, 1, 2, 5, 15, 20, 21, 22, 25, 27, 35, 60, 99])
@pytest.mark.parametrize("how", ["call", "request_id"])
def test_a_cancel_reaches_every_worker_at_every_point(after_ms: int, how: str) -> None:
    async def story(house: House) -> None:
        await enter(house)
        asked = asyncio.create_task(house.ask(request("req", prompt=LONG, max_tokens=20)))
        await asyncio.sleep(after_ms / 1000 + 1e-6)
        if how == "request_id":
            house.dispatcher.cancel(RequestId("req"), TENANT)
            assert isinstance((await asked).error, Cancelled)
            house.dispatcher.cancel(RequestId("req"), TENANT)
        else:
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
        await asyncio.sleep(0.5)
        house.check_clean()

    play(story)


def test_a_cancel_while_the_client_still_reads_a_finished_answer_changes_nothing() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request("req", prompt=8, max_tokens=4)
        asked = asyncio.create_task(house.ask(wanted, read_every_s=1.0))
        await asyncio.sleep(0.5)
        assert house.dispatcher.num_active == 1, "all is computed, the reader is not through"
        house.dispatcher.cancel(RequestId("req"), TENANT)
        await house.dispatcher.drain(0.1, hurry=asyncio.Event())
        assert (await asked).is_exact(wanted)

    play(story)


@pytest.mark.parametrize("ends", [(Journey.cancel, Journey.cut), (Journey.cut, Journey.cancel)])
def test_of_two_ends_in_one_moment_the_first_is_told(ends: tuple[Callable[[Journey], None], ...]) -> None:
    """The client's cancel, and the end of the grace of a router that leaves."""

    async def story(house: House) -> None:
        await enter(house)
        with house.dispatcher.enter(request("req", prompt=LONG), [spelled_text()]) as journey:
            running = asyncio.create_task(journey.run())
            await asyncio.sleep(0.01)
            for end in ends:
                end(journey)
            await running
        assert isinstance(journey.error, Cancelled if ends[0] is Journey.cancel else Unavailable)

    play(story)


def test_cancelling_the_unknown_is_not_found() -> None:
    async def story(house: House) -> None:
        with pytest.raises(NotFound):
            house.dispatcher.cancel(RequestId("nobody"), TENANT)

    play(story)


def test_a_cancel_while_queued_costs_no_worker_anything() -> None:
    async def story(house: House) -> None:
        asked = asyncio.create_task(house.ask(request()))
        await asyncio.sleep(0.1)
        house.dispatcher.cancel(RequestId("req"), TENANT)
        assert isinstance((await asked).error, Cancelled)
        await enter(house)
        await asyncio.sleep(1)
        assert seen(house, "local") == 0

    play(story)


def test_a_deadline_ends_the_work_on_every_worker() -> None:
    async def story(house: House) -> None:
        await enter(house, d0=Script(silent_after=3), d1=Script(silent_after=3))
        answer = await house.ask(request(prompt=LONG, deadline=5.0))
        assert isinstance(answer.error, DeadlineExceeded)
        assert len(answer.tokens[0]) == 3
        assert house.loop.time() == pytest.approx(5.0, abs=0.01)

    play(story)


def test_a_stop_string_ends_the_choice_and_the_work() -> None:
    async def story(house: House) -> None:
        await enter(house)
        answer = await house.ask(request(prompt=LONG, max_tokens=50), stops=("1005",))
        assert answer.finishes == {0: FinishReason.STOP}
        assert answer.stop_strings == {0: "1005"}
        assert answer.text[0] == "1000 1001 1002 1003 1004 "
        assert len(answer.tokens[0]) == 6
        await asyncio.sleep(0.1)
        house.check_clean()

    play(story)


def test_a_choice_that_ends_with_its_first_token_frees_the_promise() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG, max_tokens=1)
        assert (await house.ask(wanted)).is_exact(wanted)

    play(story)


def test_a_slow_reader_is_paused_and_still_gets_every_token() -> None:
    async def story(house: House) -> None:
        await enter(house)
        wanted = request(prompt=LONG, max_tokens=400)
        answer = await house.ask(wanted, read_every_s=1.5)
        assert answer.is_exact(wanted)
        assert seen(house, "local") + seen(house, "reserve") > 1, "its place was given up meanwhile"

    play(story)


def test_a_reader_that_does_not_read_is_cancelled() -> None:
    async def story(house: House) -> None:
        await enter(house)
        answer = await house.ask(request(prompt=LONG, max_tokens=400), read_every_s=30.0)
        assert isinstance(answer.error, Refused)
        assert answer.error.reason is Reason.SLOW_READER

    play(story)
