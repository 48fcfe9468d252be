"""The loop of tests with threads and sockets: it counts no time in which the machine did not let the process run.

Deadlines on it are those of the system's clock, less every stand-still: whatever is waited for shall have had its time.
"""

import asyncio
import selectors
from threading import get_ident
from time import monotonic, thread_time

STALL_S = 0.1
"""Chosen: late by more than this is the machine's doing. Above a busy scheduler's turns, below a test's deadlines."""

LOOK_S = 0.25
"""Chosen: it waits for at most this at a time, so that a stand-still amid a long wait shows."""


class PatientLoop(asyncio.SelectorEventLoop):
    """Writer of its time: the thread that it runs on. Others read what it was."""

    def __init__(self) -> None:
        self._now = monotonic()
        self._thread: int | None = None
        self._seen = self._worked = 0.0
        super().__init__(_PatientSelector(self))

    def time(self) -> float:
        if get_ident() == self._thread:
            seen, worked = self._seen, self._worked
            self._look()
            # A callback that was long and did not work meanwhile was held up.
            self._now += min(self._seen - seen, self._worked - worked + STALL_S)
        return self._now

    def waited(self, seconds: float, *, at_most: float) -> None:
        """It was to wait for `at_most`. A wait that took much longer is as if it had not been."""
        self._now += seconds if seconds <= at_most + STALL_S else 0.0
        self._thread = get_ident()
        self._look()

    def _look(self) -> None:
        self._seen, self._worked = monotonic(), thread_time()


def now() -> float:
    """For what a test measures: the running loop's time. No stand-still counts, of this process or of its machine."""
    return asyncio.get_running_loop().time()


class _PatientSelector(selectors.DefaultSelector):
    def __init__(self, loop: PatientLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.time()
        began, at_most = monotonic(), LOOK_S if timeout is None else min(max(timeout, 0.0), LOOK_S)
        ready = super().select(at_most)
        self._loop.waited(monotonic() - began, at_most=at_most)
        return ready


class PatientPolicy(asyncio.DefaultEventLoopPolicy):
    """Every new loop of a test process is a patient one, unless its maker names another."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return PatientLoop()
