"""Goal: messages leave in order, one at a time, and the owner hears of what failed. Method: a call of our own."""

import asyncio
import gc

import pytest

from services.router.pen import Pen


class Call:
    """Takes messages when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.taken: list[str] = []
        self.gates: list[asyncio.Future[None]] = []

    async def write(self, message: str) -> None:
        self.begun.append(message)
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate
        self.taken.append(message)


async def test_a_message_is_handed_over_in_the_turn_that_begins_it() -> None:
    call = Call()
    pen = Pen(call)
    pen.begin("a")
    assert call.begun == ["a"]
    assert not pen.is_free()


async def test_a_message_that_was_taken_costs_nothing_until_somebody_has_the_next() -> None:
    """No callback runs for it: of a thousand streams each would be a turn of the loop."""
    call = Call()
    pen = Pen(call)
    pen.begin("a")
    call.gates[0].set_result(None)
    await asyncio.sleep(0)
    assert call.taken == []
    assert pen.is_free()
    assert call.taken == ["a"]


@pytest.mark.parametrize("is_waited_for", [True, False])
async def test_a_write_that_waits_twice_ends_whether_its_owner_waits_or_has_left(is_waited_for: bool) -> None:
    class Slow(Call):
        async def write(self, message: str) -> None:
            await super().write(message + "1")
            await super().write(message + "2")

    call = Slow()
    pen = Pen(call)
    pen.begin("a")
    waiting = asyncio.create_task(pen.wait_free()) if is_waited_for else None
    await asyncio.sleep(0)
    if waiting is None:
        pen.leave()
    call.gates[0].set_result(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not pen.is_free()
    call.gates[1].set_result(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert call.taken == ["a1", "a2"]
    assert waiting is None or waiting.done()


async def test_the_owner_waits_until_the_message_was_taken() -> None:
    call = Call()
    pen = Pen(call)
    pen.begin("a")
    waiting = asyncio.create_task(pen.wait_free())
    await asyncio.sleep(0)
    assert not waiting.done()
    call.gates[0].set_result(None)
    await asyncio.wait_for(waiting, 1.0)
    assert call.taken == ["a"]


@pytest.mark.parametrize("error", [RuntimeError("reset"), asyncio.CancelledError()])
async def test_what_failed_is_the_owners_to_hear_and_nothing_is_begun_after_it(error: BaseException) -> None:
    call = Call()
    pen = Pen(call)
    pen.begin("a")
    call.gates[0].set_exception(error) if isinstance(error, Exception) else call.gates[0].cancel()
    await asyncio.sleep(0)
    assert not pen.is_free()
    with pytest.raises(type(error)):
        await pen.wait_free()


async def test_a_call_that_is_over_fails_its_write_and_not_whoever_had_the_token() -> None:
    class Ended:
        async def write(self, message: str) -> None:
            raise asyncio.CancelledError

    pen = Pen(Ended())
    pen.begin("a")
    with pytest.raises(asyncio.CancelledError):
        await pen.wait_free()


@pytest.mark.parametrize("has_waited", [True, False])
async def test_a_write_that_fails_when_its_owner_has_left_is_no_news_to_anybody(has_waited: bool) -> None:
    """A client that hangs up amid a message: the loop must not complain of an exception that nobody retrieved."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    call = Call()
    pen = Pen(call)
    pen.begin("a")
    if has_waited:
        waiting = asyncio.create_task(pen.wait_free())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        del waiting
    pen.leave()
    del pen
    call.gates.pop().set_exception(RuntimeError("reset"))
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
