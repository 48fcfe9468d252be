"""Virtual time behaves like time, only faster, and says when a program hangs."""

import asyncio
import time

import pytest

from tests.sim.timeloop import Deadlock, Livelock, LoopClock, TimeLimit, TimeLoop, simulate


def test_an_hour_of_sleep_passes_at_once_and_exactly() -> None:
    async def program(loop: TimeLoop) -> float:
        await asyncio.sleep(3000)
        async with asyncio.timeout(100):
            await asyncio.sleep(99)
        return LoopClock(loop).monotonic()

    began = time.process_time()
    assert simulate(program) == pytest.approx(3099)
    assert time.process_time() - began < 1


def test_sleepers_wake_in_order_of_their_time() -> None:
    async def program(loop: TimeLoop) -> list[int]:
        woken: list[int] = []

        async def sleeper(index: int) -> None:
            await asyncio.sleep(index * 0.1)
            woken.append(index)

        async with asyncio.TaskGroup() as tasks:
            for index in (3, 1, 2):
                tasks.create_task(sleeper(index))
        return woken

    assert simulate(program) == [1, 2, 3]


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    async def program(loop: TimeLoop) -> list[tuple[float, int]]:
        seen: list[tuple[float, int]] = []

        async def actor(index: int) -> None:
            for _ in range(5):
                await asyncio.sleep(loop.random.random())
                seen.append((loop.time(), index))

        async with asyncio.TaskGroup() as tasks:
            for index in range(4):
                tasks.create_task(actor(index))
        return seen

    assert simulate(program, seed=1) == simulate(program, seed=1)
    assert simulate(program, seed=1) != simulate(program, seed=2)


def test_a_wait_for_nothing_is_a_deadlock_that_names_the_task() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    async def program(loop: TimeLoop) -> None:
        await asyncio.create_task(stuck(), name="the stuck one")

    with pytest.raises(Deadlock, match="the stuck one"):
        simulate(program)


def test_a_busy_loop_is_a_livelock() -> None:
    async def program(loop: TimeLoop) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock):
        simulate(program)


def test_a_program_that_does_not_end_meets_its_limit() -> None:
    async def program(loop: TimeLoop) -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(TimeLimit):
        simulate(program, limit_s=50)


def test_an_exception_that_nobody_handled_fails_the_simulation() -> None:
    async def program(loop: TimeLoop) -> None:
        loop.call_later(1, lambda: 1 // 0)
        await asyncio.sleep(2)

    with pytest.raises(ZeroDivisionError):
        simulate(program)


def test_the_first_failure_is_told_even_if_cleaning_up_hangs() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    async def program(loop: TimeLoop) -> None:
        loop.keep = loop.create_task(stubborn())  # type: ignore[attr-defined]
        await asyncio.sleep(1)
        raise KeyError("the first")

    with pytest.raises(KeyError, match="the first"):
        simulate(program)


def test_threads_are_refused() -> None:
    async def program(loop: TimeLoop) -> None:
        await asyncio.to_thread(time.monotonic)

    with pytest.raises(AssertionError, match="thread"):
        simulate(program)


def test_leftover_tasks_are_cancelled_and_clean_up() -> None:
    cleaned: list[bool] = []

    async def program(loop: TimeLoop) -> None:
        async def lingering() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                cleaned.append(True)

        loop.keep = loop.create_task(lingering())  # type: ignore[attr-defined]
        await asyncio.sleep(1)

    simulate(program)
    assert cleaned == [True]
