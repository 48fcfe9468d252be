"""Goal: who waits for whom, who is refused, who leaves. Method: tickets against a capacity that the test turns, in
virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from common.core.entropy import SeededEntropy
from common.core.errors import DeadlineExceeded, Refused, Unavailable
from common.core.ids import RequestId
from common.core.queue import Cause
from common.core.request import Priority
from services.router.admission.admission import Admission
from services.router.admission.limits import AdmissionLimits, ClassLimits
from services.router.admission.ticket import Ticket
from services.router.admission.turns import AGED_EVERY, AGEING_S, STARVED_S
from tests.sim.timeloop import LoopClock, TimeLoop, simulate


class Pool:
    """A fleet that can take `pages` at a time."""

    def __init__(self) -> None:
        self.pages = 0
        self.absent_for = 0.0

    def obstacle(self, num_pages: int, num_tokens: int) -> Cause | None:
        return None if num_pages <= self.pages else Cause.DECODE_FULL

    def places_for(self, priority: Priority) -> int | None:
        return None

    def absent_s(self) -> float:
        return self.absent_for


class Line:
    """An admission, its fleet, and the order in which tickets were admitted."""

    def __init__(self, loop: TimeLoop, *, max_queue: int, max_active: int) -> None:
        self.loop = loop
        self.pool = Pool()
        classes = dict.fromkeys(Priority, ClassLimits(max_queue=max_queue))
        limits = AdmissionLimits(classes=classes, max_active=max_active)
        clock, entropy = LoopClock(loop), SeededEntropy(1)
        self.admission = Admission(limits=limits, fleet=self.pool, clock=clock, entropy=entropy)
        self.admitted: list[str] = []
        self.group: asyncio.TaskGroup | None = None

    def ticket(self, name: str, priority: Priority = Priority.STANDARD, **fields: object) -> Ticket:
        defaults: dict[str, object] = {"arrived": self.loop.time(), "deadline": self.loop.time() + 100, "num_pages": 1}
        return Ticket(request=RequestId(name), priority=priority, **{**defaults, **fields})  # type: ignore[arg-type]

    async def pass_through(self, ticket: Ticket, hold_s: float = 0.0) -> None:
        async with self.admission.turn(ticket) as place:
            self.admitted.append(ticket.request)
            place.note_assigned()
            place.note_landed()
            await asyncio.sleep(hold_s)

    def enter(
        self, name: str, priority: Priority = Priority.STANDARD, *, hold_s: float = 0.0, **fields: object
    ) -> None:
        assert self.group is not None
        self.group.create_task(self.pass_through(self.ticket(name, priority, **fields), hold_s))

    async def open(self, pages: int = 100) -> None:
        self.pool.pages = pages
        self.admission.pump()
        await asyncio.sleep(0.001)


def in_line(story: Callable[[Line], Awaitable[None]], *, max_queue: int = 100, max_active: int = 100) -> None:
    async def program(loop: TimeLoop) -> None:
        line = Line(loop, max_queue=max_queue, max_active=max_active)
        async with asyncio.TaskGroup() as group:
            line.group = group
            await story(line)
        assert line.admission.num_active == 0
        assert line.admission.waiting() == ()

    simulate(program)


def test_classes_go_strictly_and_ages_within_a_class() -> None:
    async def story(line: Line) -> None:
        for name, priority in (
            ("b0", Priority.BATCH),
            ("s0", Priority.STANDARD),
            ("s1", Priority.STANDARD),
            ("i0", Priority.INTERACTIVE),
        ):
            line.enter(name, priority)
            await asyncio.sleep(0.01)
        await line.open()
        assert line.admitted == ["i0", "s0", "s1", "b0"]

    in_line(story)


def test_old_batch_work_gets_every_eighth_turn_among_young_interactive_work() -> None:
    async def story(line: Line) -> None:
        line.enter("old", Priority.BATCH)
        await asyncio.sleep(AGEING_S)
        for number in range(10):
            line.enter(f"young{number}", Priority.INTERACTIVE)
        await asyncio.sleep(0.01)
        await line.open()
        assert line.admitted.index("old") == AGED_EVERY - 1

    in_line(story)


def test_a_large_request_at_the_head_is_not_overtaken_for_ever() -> None:
    async def story(line: Line) -> None:
        line.enter("large", num_pages=50)
        await asyncio.sleep(0.01)
        line.enter("small", num_pages=1)
        await asyncio.sleep(0.01)
        await line.open(10)
        assert line.admitted == []
        await line.open(50)
        assert line.admitted == ["large", "small"]

    in_line(story)


def test_who_starves_is_waited_for_and_who_is_merely_old_is_not() -> None:
    """A large request of a low class: higher ones pass it while it does not fit, but not for ever."""

    async def story(line: Line) -> None:
        line.enter("large", Priority.BATCH, num_pages=50, deadline=line.loop.time() + 2 * STARVED_S)
        await asyncio.sleep(AGEING_S)
        for number in range(AGED_EVERY + 1):
            line.enter(f"passes{number}", Priority.INTERACTIVE)
        await line.open(10)
        assert len(line.admitted) == AGED_EVERY + 1
        await asyncio.sleep(STARVED_S)
        line.enter("waits", Priority.INTERACTIVE)
        await line.open(10)
        assert "waits" not in line.admitted
        await line.open(50)
        assert line.admitted[-2:] == ["large", "waits"]

    in_line(story)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def story(line: Line) -> None:
        line.enter("a")
        line.enter("b")
        await asyncio.sleep(0.01)
        with pytest.raises(Refused) as caught:
            await line.pass_through(line.ticket("c"))
        assert (caught.value.retry_after_s or 0) > 0
        assert caught.value.quota_subject == "queue:standard"
        line.enter("other class", Priority.BATCH)
        line.enter("placed before", has_run=True)
        await asyncio.sleep(0.01)
        await line.open()
        assert len(line.admitted) == 4

    in_line(story, max_queue=2)


def test_an_idle_router_needs_no_queue() -> None:
    async def story(line: Line) -> None:
        await line.open()
        await line.pass_through(line.ticket("a"))

    in_line(story, max_queue=0)


def test_no_more_than_max_active_are_admitted() -> None:
    async def story(line: Line) -> None:
        await line.open()
        for index in range(5):
            line.enter(f"r{index}", hold_s=1.0)
        await asyncio.sleep(0.5)
        assert line.admission.num_active == 2
        await asyncio.sleep(0.6)
        assert len(line.admitted) == 4

    in_line(story, max_active=2)


def test_expired_work_leaves_the_queue() -> None:
    async def story(line: Line) -> None:
        with pytest.raises(DeadlineExceeded):
            await line.pass_through(line.ticket("late", deadline=1.0, has_run=True))
        assert line.loop.time() == pytest.approx(1.0)
        await line.open()
        assert line.admitted == []

    in_line(story)


def test_a_new_request_is_not_kept_waiting_for_a_fleet_that_is_gone() -> None:
    async def story(line: Line) -> None:
        line.pool.absent_for = 10.0
        with pytest.raises(Unavailable):
            await line.pass_through(line.ticket("new"))
        line.enter("placed before", has_run=True)
        await asyncio.sleep(1)
        await line.open()
        assert line.admitted == ["placed before"]

    in_line(story)


def test_a_request_to_a_fleet_that_went_to_none_is_held_for_the_first_worker() -> None:
    """Its waiting is what wakes the fleet; the hold ends, and so does its deadline."""

    async def story(line: Line) -> None:
        line.pool.absent_for = 3600.0
        line.admission.line.limits = replace(line.admission.line.limits, hold_s=30.0)
        line.enter("held")
        await asyncio.sleep(20)
        assert line.admitted == []
        line.pool.absent_for = 0.0
        await line.open()
        assert line.admitted == ["held"]
        line.pool.absent_for = 3600.0
        line.pool.pages = 0
        arrived = line.loop.time()
        with pytest.raises(Unavailable):
            await line.pass_through(line.ticket("in vain"))
        assert line.loop.time() - arrived == pytest.approx(30.0)

    in_line(story)


def test_a_cancelled_waiter_makes_way() -> None:
    async def story(line: Line) -> None:
        gone = asyncio.create_task(line.pass_through(line.ticket("gone", num_pages=50)))
        await asyncio.sleep(0.01)
        line.enter("next")
        await asyncio.sleep(0.01)
        await line.open(10)
        gone.cancel()
        await asyncio.sleep(0.01)
        assert line.admitted == ["next"]

    in_line(story)
