"""The way of an event to its leg: at once while the leg waits, in order behind what is queued otherwise."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common.core.errors import InternalError
from common.core.events import TokensEmitted, WorkEvent
from common.core.ids import RequestId, TokenId, WorkerRef
from services.router.inbox import MAX_QUEUED, Arrival, Inbox, Switchboard, Taking, WorkerLost
from tests.router.build import worker_ref

WORK = RequestId("req.1")
WORKER = worker_ref("decode-0")


def token(index: int) -> TokensEmitted:
    return TokensEmitted(request=WORK, attempt=1, choice=0, first_index=index, tokens=(TokenId(index),))


class Leg:
    """Takes tokens below `over_at` at once, and is over with that one; refuses odd ones when it is picky."""

    def __init__(self, over_at: int = 1_000, *, is_picky: bool = False) -> None:
        self.taken: list[int] = []
        self._over_at = over_at
        self._is_picky = is_picky

    def take(self, worker: WorkerRef, event: WorkEvent) -> Taking:
        assert isinstance(event, TokensEmitted)
        if self._is_picky and event.first_index % 2:
            return Taking.REFUSED
        self.taken.append(event.first_index)
        return Taking.OVER if event.first_index == self._over_at else Taking.TAKEN


def index_of(arrival: Arrival | None) -> int:
    assert arrival is not None
    assert isinstance(arrival.event, TokensEmitted)
    return arrival.event.first_index


def play(story: Callable[[Switchboard, Inbox], Awaitable[None]]) -> None:
    async def program() -> None:
        board = Switchboard()
        with board.open(WORK) as inbox:
            inbox.watched.add(WORKER)
            async with asyncio.timeout(5):
                await story(board, inbox)

    asyncio.run(program())


def test_a_waiting_leg_takes_events_without_being_woken() -> None:
    async def story(board: Switchboard, inbox: Inbox) -> None:
        leg = Leg(over_at=2)
        waiting = asyncio.create_task(inbox.next(leg.take))
        await asyncio.sleep(0)
        board.deliver(WORKER, (token(0), token(1)))
        assert leg.taken == [0, 1]
        await asyncio.sleep(0)
        assert not waiting.done()
        board.deliver(WORKER, (token(2), token(3)))
        assert await waiting is None
        assert leg.taken == [0, 1, 2]
        assert index_of(inbox.next_nowait()) == 3

    play(story)


def test_what_a_leg_refuses_waits_for_it_and_is_not_overtaken() -> None:
    async def story(board: Switchboard, inbox: Inbox) -> None:
        leg = Leg(is_picky=True)
        waiting = asyncio.create_task(inbox.next(leg.take))
        await asyncio.sleep(0)
        board.deliver(WORKER, (token(0), token(1), token(2)))
        assert leg.taken == [0]
        assert [index_of(await waiting), index_of(await inbox.next(leg.take))] == [1, 2]

    play(story)


def test_a_busy_leg_finds_its_events_later() -> None:
    async def story(board: Switchboard, inbox: Inbox) -> None:
        leg = Leg()
        board.deliver(WORKER, (token(0),))
        board.lose(WORKER, "gone")
        assert leg.taken == []
        assert index_of(await inbox.next(leg.take)) == 0
        lost = await inbox.next(leg.take)
        assert lost is not None
        assert lost.event == WorkerLost(reason="gone")

    play(story)


def test_what_goes_wrong_in_a_leg_is_raised_there_and_nowhere_else() -> None:
    async def story(board: Switchboard, inbox: Inbox) -> None:
        def broken(worker: WorkerRef, event: WorkEvent) -> Taking:
            raise InternalError(message="impossible index")

        waiting = asyncio.create_task(inbox.next(broken))
        await asyncio.sleep(0)
        board.deliver(WORKER, (token(0), token(1)))
        with pytest.raises(InternalError, match="impossible index"):
            await waiting
        assert index_of(inbox.next_nowait()) == 1

    play(story)


def test_a_leg_that_falls_too_far_behind_is_told() -> None:
    async def story(board: Switchboard, inbox: Inbox) -> None:
        board.deliver(WORKER, map(token, range(MAX_QUEUED + 1)))
        with pytest.raises(InternalError, match="behind"):
            await inbox.next(Leg().take)

    play(story)


def test_events_of_workers_that_the_leg_does_not_watch_are_dropped() -> None:
    async def story(board: Switchboard, inbox: Inbox) -> None:
        board.deliver(worker_ref("decode-1"), (token(0),))
        assert inbox.next_nowait() is None
        assert board.num_dropped == 1

    play(story)
