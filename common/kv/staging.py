"""Buffers that pages pass through on their way in and out, in one kind of memory. Bounded: the ceiling on bytes in
flight."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from common.core.errors import Reason, Refused
from common.kv.span import Span

MakeBuffer = Callable[[int], Span]


def host_memory(num_bytes: int) -> memoryview:
    """Plain memory. Beside a GPU pools are made of pinned memory instead."""
    return memoryview(bytearray(num_bytes))


class Staging:
    """One borrowed buffer. Whoever holds it gives it back once, also by leaving a `with` block."""

    __slots__ = ("_buffer", "_holder", "_pool")

    def __init__(self, pool: "StagingPool", buffer: Span, holder: str = "") -> None:
        self._pool = pool
        self._holder = holder
        self._buffer: Span | None = buffer

    @property
    def view(self) -> Span:
        """The whole buffer, writable. Slice it to what travels."""
        assert self._buffer is not None, "a staging buffer is used after it was given back"
        return self._buffer

    def release(self) -> None:
        """Give the buffer back. Any thread may call."""
        buffer, self._buffer = self.view, None
        self._pool._give_back(buffer, self._holder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(eq=False, slots=True)
class _Waiter:
    """Somebody who waits in an event loop for a buffer."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Staging]"


class StagingPool:
    """`count` buffers of `num_bytes` each, made once and reused. Safe to use from any thread.

    Waiters are served in order of arrival. At most `max_waiters` wait; more are refused.

    A holder that names itself has a fair share: it gets a buffer only while it holds fewer than are free. Alone it
    takes half of them, the next one half of the rest, and so on: whoever never gives back leaves something to others.
    """

    def __init__(
        self,
        count: int,
        num_bytes: int,
        *,
        make_buffer: MakeBuffer = host_memory,
        max_waiters: int = 1024,
    ) -> None:
        assert count > 0, f"{count} staging buffers"
        self.count = count
        self.num_bytes = num_bytes
        self.refusals = 0
        self._max_waiters = max_waiters
        self._lock = threading.Lock()
        self._free = [make_buffer(num_bytes) for _ in range(count)]
        self._held: Counter[str] = Counter()
        self._waiters: deque[_Waiter] = deque()

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_waiting(self) -> int:
        return len(self._waiters)

    def acquire_nowait(self, holder: str = "") -> Staging | None:
        """A buffer, or None when all are out, or when `holder` has its share of them. Without a name: no share."""
        with self._lock:
            if not self._free or (holder and self._held[holder] >= len(self._free)):
                return None
            if holder:
                self._held[holder] += 1
            return Staging(self, self._free.pop(), holder)

    async def acquire(self, deadline_s: float) -> Staging:
        """A buffer, waiting at most `deadline_s` seconds for one. Raises Refused when none came back in time."""
        waiter = _Waiter(loop=asyncio.get_running_loop(), future=asyncio.get_running_loop().create_future())
        with self._lock:
            if self._free:
                return Staging(self, self._free.pop())
            if len(self._waiters) >= self._max_waiters:
                raise self._refused(f"{self._max_waiters} callers wait already")
            self._waiters.append(waiter)
        try:
            async with asyncio.timeout(deadline_s):
                return await waiter.future
        except TimeoutError:
            self._withdraw(waiter)
            raise self._refused(f"none came back within {deadline_s:.3f} s") from None
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _withdraw(self, waiter: _Waiter) -> None:
        """The caller stops waiting. A buffer that reached it at the very last moment goes back."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if waiter.future.done() and not waiter.future.cancelled():
            waiter.future.result().release()

    def _give_back(self, buffer: Span, holder: str) -> None:
        """Hand the buffer to whoever waited longest, or put it with the free ones."""
        with self._lock:
            if holder:
                self._held[holder] -= 1
                if not self._held[holder]:
                    del self._held[holder]
            while self._waiters:
                waiter = self._waiters.popleft()
                try:
                    waiter.loop.call_soon_threadsafe(_hand_over, waiter, Staging(self, buffer))
                except RuntimeError:  # its loop is closed: nobody waits there any more
                    continue
                return
            self._free.append(buffer)

    def _refused(self, detail: str) -> Refused:
        self.refusals += 1
        return Refused(
            message=f"all {self.count} staging buffers of {self.num_bytes} bytes are in flight; {detail}",
            reason=Reason.MEMORY_PRESSURE,
        )


def _hand_over(waiter: _Waiter, staging: Staging) -> None:
    """In the waiter's loop: it takes the buffer, unless it gave up meanwhile."""
    if waiter.future.done():
        staging.release()
    else:
        waiter.future.set_result(staging)
