"""How the fleet hears its workers: played messages over one stream, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import cast

import pytest

from common.core.events import EventMessage, TokensEmitted, WorkEvent
from common.core.ids import RequestId, TokenId, WorkerRef
from common.core.worker import Role
from services.router import fleet
from services.router.cancellations import Cancellations
from services.router.fleet import EVENTS_OF_TURN, Fleet, FleetSettings
from services.router.inbox import Inbox, Switchboard, Taking
from services.router.workers import Workers
from tests.router.build import load, member, worker_ref
from tests.router.cast import Mirror
from tests.sim.timeloop import LoopClock, TimeLoop, simulate

WORKER = worker_ref("decode-0")
NUM_EVENTS = 4096
SUSPECT_S = 2.0


class Stream:
    """Workers whose one stream says what the test puts into it."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[EventMessage] = asyncio.Queue()
        self._sequence = 0

    def say(self, events: Sequence[WorkEvent]) -> None:
        self._sequence += 1
        message = EventMessage(worker=WORKER, sequence=self._sequence, events=tuple(events), load=load())
        self.messages.put_nowait(message)

    @asynccontextmanager
    async def subscribe(self, worker: WorkerRef) -> AsyncIterator[AsyncIterator[EventMessage]]:
        yield self._told()

    async def _told(self) -> AsyncIterator[EventMessage]:
        while True:
            yield await self.messages.get()

    async def forget(self, worker: WorkerRef) -> None:
        return


def token(request: RequestId, index: int) -> TokensEmitted:
    return TokensEmitted(request=request, attempt=1, choice=0, first_index=index, tokens=(TokenId(index),))


class Listening:
    """A fleet with one worker, and a leg that takes everything at once. Each event notes the turn of the loop."""

    def __init__(self, loop: TimeLoop, *, model_digest: bytes = b"") -> None:
        self.stream = Stream()
        self.board = Switchboard()
        self.mirror = Mirror()
        workers = cast(Workers, self.stream)
        self.fleet = Fleet(
            mirror=self.mirror,
            workers=workers,
            switchboard=self.board,
            cancellations=Cancellations(workers),
            clock=LoopClock(loop),
            settings=FleetSettings(suspect_s=SUSPECT_S, model_digest=model_digest),
        )
        self.turn = 0
        self.taken: list[tuple[int, int]] = []
        """Turn and index of every event."""

    def take(self, worker: WorkerRef, event: WorkEvent) -> Taking:
        assert isinstance(event, TokensEmitted)
        self.taken.append((self.turn, event.first_index))
        return Taking.OVER if event.first_index == NUM_EVENTS - 1 else Taking.TAKEN

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    async def follow(self, inbox: Inbox) -> None:
        inbox.watched.add(WORKER)
        assert await inbox.next(self.take) is None


def test_a_backlog_is_taken_in_order_over_many_turns_of_the_loop() -> None:
    """A router that was held up finds thousands of events in one message: other requests go on meanwhile."""

    async def program(loop: TimeLoop) -> None:
        it = Listening(loop)
        it.mirror.put(member("decode-0", Role.DECODE))
        work = RequestId("held up.1")
        with it.board.open(work) as inbox:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(it.fleet.run())
                following = group.create_task(it.follow(inbox))
                await asyncio.sleep(0.01)
                counting = group.create_task(it.count_turns())
                it.stream.say([token(work, index) for index in range(NUM_EVENTS)])
                await following
                counting.cancel()
                running.cancel()
        assert [index for _, index in it.taken] == list(range(NUM_EVENTS))
        turns = [turn for turn, _ in it.taken]
        assert max(turns.count(turn) for turn in set(turns)) <= EVENTS_OF_TURN

    simulate(program)


def test_what_a_step_wrote_is_handed_to_grpc_as_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token may be a message to a client, for which gRPC's poller would wake."""
    blocks: list[tuple[int, int]] = []

    async def program(loop: TimeLoop) -> None:
        it = Listening(loop)
        it.mirror.put(member("decode-0", Role.DECODE))

        @contextmanager
        def noted(num_messages: int) -> Iterator[None]:
            before = len(it.taken)
            yield
            blocks.append((num_messages, len(it.taken) - before))

        monkeypatch.setattr(fleet, "writing", noted)
        work = RequestId("one of eight.1")
        with it.board.open(work) as inbox:
            running = asyncio.create_task(it.fleet.run())
            following = asyncio.create_task(it.follow(inbox))
            await asyncio.sleep(0.01)
            it.stream.say([token(work, index) for index in range(8)])
            await asyncio.sleep(0.01)
            running.cancel()
            following.cancel()

    simulate(program)
    assert blocks == [(8, 8)]


def test_a_worker_that_neither_speaks_nor_has_a_lease_is_named_until_it_is_back() -> None:
    """Its stream hangs, its lease ends; then its next incarnation comes."""

    async def program(loop: TimeLoop) -> None:
        it = Listening(loop)
        it.mirror.put(member("decode-0", Role.DECODE))
        running = asyncio.create_task(it.fleet.run())
        it.stream.say([])
        await asyncio.sleep(SUSPECT_S / 2)
        it.mirror.remove(WORKER.worker)
        await asyncio.sleep(0.01)
        assert not it.fleet.missing(), "it is still heard"
        await asyncio.sleep(SUSPECT_S)
        assert [(each.worker, each.role) for each in it.fleet.missing()] == [(WORKER, Role.DECODE)]
        it.mirror.put(member("decode-0", Role.DECODE, epoch=2))
        await asyncio.sleep(0.01)
        assert not it.fleet.missing()
        running.cancel()

    simulate(program)


def test_workers_of_another_model_are_nobodys_to_use_until_they_have_ours() -> None:
    """Restarted with our model they are taken like anybody; who tells of no model is of an older release."""

    async def program(loop: TimeLoop) -> None:
        it = Listening(loop, model_digest=b"ours")
        told = {"decode-0": b"ours", "decode-1": b"another", "decode-2": b""}
        for name, digest in told.items():
            it.mirror.put(replace(member(name, Role.DECODE), model_digest=digest))
        running = asyncio.create_task(it.fleet.run())
        await asyncio.sleep(0.01)
        assert [worker.worker for worker in it.fleet.states()] == ["decode-0", "decode-2"]
        it.mirror.put(replace(member("decode-1", Role.DECODE, epoch=2), model_digest=b"ours"))
        await asyncio.sleep(0.01)
        assert sorted(worker.worker for worker in it.fleet.states()) == ["decode-0", "decode-1", "decode-2"]
        running.cancel()

    simulate(program)


def test_one_workers_strange_pages_are_not_the_fleets() -> None:
    """Their size prices every transfer, their fingerprint is part of every prefix: one liar spoilt both for all."""

    async def program(loop: TimeLoop) -> None:
        it = Listening(loop)
        strange = replace(member("decode-0", Role.DECODE), page_bytes=1 << 60, layout_fingerprint=b"?" * 32)
        silent = replace(member("decode-1", Role.DECODE), page_bytes=0)
        it.mirror.put(strange)
        it.mirror.put(silent)
        running = asyncio.create_task(it.fleet.run())
        await asyncio.sleep(0.01)
        for name in ("decode-2", "decode-3"):
            it.mirror.put(replace(member(name, Role.DECODE), page_bytes=4096))
            await asyncio.sleep(0.01)
        assert it.fleet.view().page_bytes == 4096
        assert it.fleet.fingerprint() == silent.layout_fingerprint
        running.cancel()

    simulate(program)


def test_a_fleet_of_nobody_has_no_pages() -> None:
    async def program(loop: TimeLoop) -> None:
        it = Listening(loop)
        assert it.fleet.view().page_bytes == 0
        assert it.fleet.fingerprint() is None

    simulate(program)
