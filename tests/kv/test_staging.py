"""Staging buffers: never more than there are, handed over in order, never lost to a waiter that gave up."""

import asyncio
import threading

import pytest

from common.core.errors import Reason, Refused
from common.kv.staging import Staging, StagingPool


def take(pool: StagingPool) -> Staging:
    staging = pool.acquire_nowait()
    assert staging is not None
    return staging


async def settle() -> None:
    """Let callbacks that are due run."""
    for _ in range(3):
        await asyncio.sleep(0)


async def wait_waiters(pool: StagingPool, count: int) -> None:
    """Let the tasks run until they wait for a buffer, all `count` of them."""
    await settle()
    assert pool.num_waiting == count


def test_there_are_as_many_buffers_as_said_and_each_has_its_size() -> None:
    pool = StagingPool(2, 64)
    one, two = take(pool), take(pool)
    assert pool.acquire_nowait() is None
    one.view[:] = b"1" * 64
    assert bytes(two.view) == bytes(64)
    one.release()
    assert pool.num_free == 1
    assert bytes(take(pool).view) == b"1" * 64  # reused, not made anew


def held(pool: StagingPool, holder: str) -> list[Staging]:
    """All that `holder` is given."""
    taken = []
    while (staging := pool.acquire_nowait(holder)) is not None:
        taken.append(staging)
    return taken


def test_a_holder_has_a_fair_share_and_leaves_something_to_those_behind_it() -> None:
    pool = StagingPool(8, 8)
    first, second, third, fourth = (held(pool, name) for name in "abcd")
    assert [len(each) for each in (first, second, third, fourth)] == [4, 2, 1, 1]
    assert held(pool, "e") == []
    second[0].release()
    assert held(pool, "a") == [], "who holds much waits"
    assert len(held(pool, "e")) == 1, "who holds nothing does not"


def test_a_share_grows_again_as_others_give_back() -> None:
    pool = StagingPool(4, 8)
    first, second = held(pool, "a"), held(pool, "b")
    assert (len(first), len(second)) == (2, 1)
    for staging in first:
        staging.release()
    assert len(held(pool, "b")) == 1
    assert pool.num_free == 2


@pytest.mark.parametrize("count", range(1, 9))
def test_the_smallest_pool_still_serves_a_single_holder(count: int) -> None:
    assert len(held(StagingPool(count, 8), "a")) == (count + 1) // 2


def test_a_with_block_gives_the_buffer_back() -> None:
    pool = StagingPool(1, 8)
    with take(pool) as staging:
        assert staging.view.nbytes == 8
    assert pool.num_free == 1


def test_a_buffer_given_back_is_used_no_more_and_not_given_back_twice() -> None:
    staging = take(StagingPool(1, 8))
    staging.release()
    with pytest.raises(AssertionError, match="given back"):
        _ = staging.view
    with pytest.raises(AssertionError, match="given back"):
        staging.release()


async def test_waiters_are_served_in_the_order_they_came() -> None:
    pool = StagingPool(1, 8)
    first = await pool.acquire(deadline_s=1)
    served: list[int] = []

    async def wait_turn(number: int) -> None:
        with await pool.acquire(deadline_s=5):
            served.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(wait_turn(number))
            await wait_waiters(pool, number + 1)
        first.release()
    assert served == [0, 1, 2, 3]
    assert pool.num_free == 1


async def test_a_buffer_released_on_another_thread_wakes_the_waiter() -> None:
    pool = StagingPool(1, 8)
    held = take(pool)
    task = asyncio.create_task(pool.acquire(deadline_s=5))
    await wait_waiters(pool, 1)
    thread = threading.Thread(target=held.release)
    thread.start()
    (await task).release()
    thread.join(5)
    assert pool.num_free == 1


async def test_a_wait_ends_at_its_deadline_with_a_refusal() -> None:
    pool = StagingPool(1, 8)
    held = take(pool)
    with pytest.raises(Refused, match=r"all 1 staging buffers of 8 bytes") as caught:
        await pool.acquire(deadline_s=0.01)
    assert caught.value.reason is Reason.MEMORY_PRESSURE
    assert pool.refusals == 1
    assert pool.num_waiting == 0
    held.release()
    assert pool.num_free == 1


async def test_more_waiters_than_allowed_are_refused_at_once() -> None:
    pool = StagingPool(1, 8, max_waiters=1)
    held = take(pool)
    task = asyncio.create_task(pool.acquire(deadline_s=5))
    await wait_waiters(pool, 1)
    with pytest.raises(Refused, match="1 callers wait already"):
        await pool.acquire(deadline_s=5)
    held.release()
    (await task).release()


async def test_a_cancelled_waiter_takes_no_buffer() -> None:
    pool = StagingPool(1, 8)
    held = take(pool)
    task = asyncio.create_task(pool.acquire(deadline_s=5))
    await wait_waiters(pool, 1)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    held.release()
    await settle()
    assert pool.num_free == 1


@pytest.mark.parametrize("turns", [0, 1], ids=["before the hand-over", "after the hand-over"])
async def test_a_buffer_on_its_way_to_a_cancelled_waiter_comes_back(turns: int) -> None:
    pool = StagingPool(1, 8)
    held = take(pool)
    task = asyncio.create_task(pool.acquire(deadline_s=5))
    await wait_waiters(pool, 1)
    held.release()
    assert pool.num_free == 0
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    await settle()
    assert pool.num_free == 1


async def test_a_buffer_that_a_cancelled_waiter_did_not_take_goes_to_the_next() -> None:
    pool = StagingPool(1, 8)
    held = take(pool)
    tasks = [asyncio.create_task(pool.acquire(deadline_s=5)) for _ in range(2)]
    await wait_waiters(pool, 2)
    held.release()
    tasks[0].cancel()
    async with asyncio.timeout(5):
        (await tasks[1]).release()
    await asyncio.wait([tasks[0]], timeout=5)
    assert tasks[0].cancelled()
    assert pool.num_free == 1


async def test_a_waiter_whose_event_loop_is_closed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed loop refuses callbacks with RuntimeError; here the loop only says so."""

    def refuse(*_: object) -> None:
        raise RuntimeError("Event loop is closed")

    pool = StagingPool(1, 8)
    held = take(pool)
    task = asyncio.create_task(pool.acquire(deadline_s=5))
    await wait_waiters(pool, 1)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", refuse)
        held.release()
    assert (pool.num_free, pool.num_waiting) == (1, 0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert pool.num_free == 1


async def test_many_threads_and_tasks_never_hold_more_than_there_are() -> None:
    """Eight tasks and four threads, 200 borrowings each, three buffers. Afterwards every buffer is back."""
    pool = StagingPool(3, 8)
    lock = threading.Lock()
    held = 0
    worst = 0

    def count(change: int) -> None:
        nonlocal held, worst
        with lock:
            held += change
            worst = max(worst, held)

    def borrow_nowait() -> None:
        for _ in range(200):
            staging = pool.acquire_nowait()
            if staging is not None:
                count(1)
                count(-1)
                staging.release()

    async def borrow() -> None:
        for _ in range(200):
            with await pool.acquire(deadline_s=20):
                count(1)
                await asyncio.sleep(0)
                count(-1)

    threads = [threading.Thread(target=borrow_nowait) for _ in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(borrow())
    for thread in threads:
        await asyncio.to_thread(thread.join, 20)
    await settle()
    assert worst <= 3
    assert (held, pool.num_free, pool.num_waiting) == (0, 3, 0)
