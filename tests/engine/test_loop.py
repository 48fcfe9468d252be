"""The step loop without its thread: commands, their answers, and what a full mailbox refuses."""

import asyncio
import threading

import pytest

from common.core.errors import Reason, Refused, Unavailable
from common.core.worker import LoadReport, PageCounts
from common.engine.look import Look
from common.engine.loop import StepThread, Turns


class IdleCore:
    """Nothing to compute."""

    def advance(self) -> bool:
        return False

    def take_events(self) -> tuple[str, ...]:
        return ()

    def look(self) -> Look:
        pages = PageCounts(total=1, free=1, promised=0, referenced=0, cached=0)
        return Look(load=LoadReport(pages=pages), counters={})


def make_turns(max_commands: int) -> Turns[str]:
    return Turns(IdleCore(), deliver=lambda _: None, max_commands=max_commands)


async def test_a_full_mailbox_refuses_new_work() -> None:
    turns = make_turns(1)
    first = turns.call(lambda: "done")
    with pytest.raises(Refused) as refused:
        await turns.call(lambda: "never")
    assert refused.value.reason is Reason.LOAD_SHED
    turns.turn()
    assert await first == "done"


async def test_what_is_under_way_is_never_refused_by_a_full_mailbox() -> None:
    """A cancel, landed bytes or a finale that got lost would leak pages, or hand a buffer back that is still read."""
    turns, heard = make_turns(1), list[str]()
    future = turns.call(lambda: heard.append("call"))
    turns.post(lambda: heard.append("cancel"))
    turns.turn()
    await asyncio.wait_for(future, 1.0)
    assert heard == ["call", "cancel"]


class BrokenCore(IdleCore):
    """Fails in its first step."""

    def advance(self) -> bool:
        raise RuntimeError("a bug")


async def test_who_waits_for_a_turn_that_never_comes_is_told() -> None:
    """A push that waited for pages of a worker whose loop had crashed kept its process from ending."""
    turns, failures = make_turns(8), list[Exception]()
    waiting = turns.call(lambda: "never")
    turns.post(lambda: failures.append(AssertionError("run after the end")))
    turns.end()
    for future in (waiting, turns.call(lambda: "too late")):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(future, 1.0)
    assert failures == []


async def test_a_loop_that_crashes_or_stops_ends_its_turns() -> None:
    for core, is_failing in ((BrokenCore(), True), (IdleCore(), False)):
        turns: Turns[str] = Turns(core, deliver=lambda _: None)
        failures: list[Exception] = []
        thread = StepThread(turns, on_failure=failures.append, name="steps")
        thread.start()
        assert thread.stop() is True
        assert [str(each) for each in failures] == (["a bug"] if is_failing else [])
        with pytest.raises(Unavailable):
            await asyncio.wait_for(turns.call(lambda: "too late"), 1.0)


def test_a_loop_that_rests_prepares_until_nothing_is_left_and_looks_for_commands_between() -> None:
    turns, done = make_turns(8), list[str]()
    is_over = threading.Event()

    def prepare() -> bool:
        done.append("prepared")
        if len(done) == 1:
            turns.post(lambda: done.append("command"))
        if len(done) < 4:
            return True
        is_over.set()
        return False

    turns.use_rest = prepare
    thread = StepThread(turns, on_failure=lambda error: done.append(repr(error)), name="steps")
    thread.start()
    assert is_over.wait(10.0)
    assert thread.stop() is True
    assert done[:4] == ["prepared", "command", "prepared", "prepared"]
