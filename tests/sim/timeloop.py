"""A seeded asyncio loop with virtual time: when nothing is ready, time jumps to the next timer.

Same seed, same program: same order of events, same times. Threads, sockets and executors have no place on it; what
plays a socket has a descriptor of this loop's own, and wakes whoever reads it.
"""

import asyncio
import heapq
import random
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from itertools import count
from typing import Any, NoReturn, TypeVar

from tests.sim.process import CURRENT, Process, ProcessHandle, ProcessTimer, make_task

T = TypeVar("T")

MAX_IDLE_TURNS = 200_000
"""Turns of the loop in which time does not move. More is a busy loop: nothing real needs so many at one instant."""

CLEAN_UP_S = 60.0

WALL_START = 1_700_000_000.0

FIRST_DESCRIPTOR = 1 << 24
"""Above any that the system gives."""


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set, yet the program has not ended."""


class Livelock(AssertionError):
    """Callbacks keep each other busy and time stands still."""


class TimeLimit(AssertionError):
    """The program was still running when its virtual time was up."""


class TimeLoop(asyncio.SelectorEventLoop):
    """Virtual time, starting at 0. `random` is the one source of chance for network, nemeses and clients."""

    def __init__(self, seed: int, *, limit_s: float = 3600.0) -> None:
        self._now = 0.0
        self._limit_s = limit_s
        self._idle_turns = 0
        self.random = random.Random(seed)
        self.task_numbers = count()
        self.descriptors = count(FIRST_DESCRIPTOR)
        self._readers: dict[int, tuple[Callable[..., object], tuple[Any, ...], Context]] = {}
        self.unhandled: list[BaseException] = []
        super().__init__(_JumpingSelector(self))
        self._clock_resolution = 1e-9
        self.set_exception_handler(self._keep_unhandled)
        self.set_task_factory(make_task)  # type: ignore[arg-type]  # it is made for this loop

    def time(self) -> float:
        return self._now

    def jump(self, timeout: float | None) -> None:
        """Called by the selector when the loop has nothing ready for `timeout` seconds."""
        if timeout is not None and timeout <= 0:
            self._idle_turns += 1
            if self._idle_turns > MAX_IDLE_TURNS:
                raise Livelock(f"{MAX_IDLE_TURNS} turns at {self._now:.6f} s:\n{self._describe_tasks()}")
            return
        if timeout is None:
            raise Deadlock(f"nothing scheduled at {self._now:.6f} s:\n{self._describe_tasks()}")
        self._idle_turns = 0
        self._now += timeout
        if self._now > self._limit_s:
            raise TimeLimit(f"still running after {self._limit_s} s:\n{self._describe_tasks()}")

    def stall(self, seconds: float) -> None:
        """Time passes while the callback that calls this holds up the loop."""
        self._now += seconds

    def grant(self, seconds: float) -> None:
        """More time, for cleaning up after a failure."""
        self._limit_s = self._now + seconds
        self._idle_turns = 0

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """There is one thread, so this is `call_soon`."""
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        process = _process_of(context)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        timer = ProcessTimer(process, when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def _call_soon(self, callback: Callable[..., object], args: Any, context: Context | None) -> asyncio.Handle:
        """Where every way of asking for a callback ends, in the base class as well."""
        process = _process_of(context)
        if process is None:
            handle = asyncio.Handle(callback, args, self, context)
        else:
            handle = ProcessHandle(process, callback, args, self, context)
        self._ready.append(handle)
        return handle

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        self._readers[fd] = callback, args, copy_context()
        self.wake_reader(fd)  # something may have come before

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def wake_reader(self, descriptor: int) -> None:
        """There is something to read, or the other end has closed."""
        if (reader := self._readers.get(descriptor)) is not None:
            callback, args, context = reader
            self.call_soon(self._read, descriptor, callback, args, context=context)

    def _read(self, descriptor: int, callback: Callable[..., object], args: Any) -> None:
        """Unless it was removed meanwhile."""
        if descriptor in self._readers:
            callback(*args)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:
        raise AssertionError(f"a thread in virtual time: {func}")

    def _keep_unhandled(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception") or RuntimeError(str(context.get("message")))
        self.unhandled.append(error)

    def _describe_tasks(self) -> str:
        return "\n".join(sorted(str(task) for task in asyncio.all_tasks(self)))


def _process_of(context: Context | None) -> Process | None:
    return CURRENT.get() if context is None else context.get(CURRENT)


class LoopClock:
    """The production Clock on virtual time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return WALL_START + self._loop.time()


def simulate(program: Callable[[TimeLoop], Coroutine[Any, Any, T]], *, seed: int = 0, limit_s: float = 3600.0) -> T:
    """Runs `program` to its end in virtual time. Raises its error, Deadlock, Livelock, TimeLimit, or the first
    exception that nobody handled. Prints the seed on failure."""
    loop = TimeLoop(seed, limit_s=limit_s)
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(program(loop))
        _end_tasks(loop)
        _raise_unhandled(loop)
    except BaseException:
        print(f"simulation failed: seed={seed} time={loop.time():.6f} s")
        loop.grant(CLEAN_UP_S)
        with suppress(Deadlock, Livelock, TimeLimit):  # the first failure is the one to read
            _end_tasks(loop)
        raise
    else:
        return result
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _raise_unhandled(loop: TimeLoop) -> None:
    if loop.unhandled:
        raise loop.unhandled[0]


def _end_tasks(loop: TimeLoop) -> None:
    """Cancels what is left and lets it clean up; what refuses to end within the limits is reported by the loop."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


class _JumpingSelector(selectors.SelectSelector):
    """Knows no descriptors but the loop's own wake-up pipe: waiting is jumping."""

    def __init__(self, loop: TimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.jump(timeout)
        return []
