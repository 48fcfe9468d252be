"""How long somebody is waited for who may have answered already: time in which this process stood still is not theirs.

A loop that was held up for a second finds the timer due and the answer unread, and turns to the timer first. Taken at
its word, one pause of a router would make every worker silent and every call to one a failure.
"""

import asyncio
from types import TracebackType
from typing import Self

from common.observe.lag import LostTime

MAX_TIMES = 4.0
"""Chosen: a loop that is late all the time gets no more than so many times the patience; then nobody was heard."""


class Patience:
    """`asyncio.timeout(seconds)`, lengthened by what the loop lost meanwhile. Raises TimeoutError likewise.

    Who is heard again and again is waited for with `renew`; between `pause` and `renew` nobody is waited for.
    """

    def __init__(self, seconds: float, lost_s: LostTime) -> None:
        self._seconds = seconds
        self._lost_s = lost_s
        self._since: float | None = None
        """None: nobody is waited for."""
        self._timer: asyncio.TimerHandle | None = None
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self.renew()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def pause(self) -> None:
        self._since = None

    def renew(self) -> None:
        """All of it, from now on. The timer is left where it is: it looks again when it finds itself too early."""
        self._since = asyncio.get_running_loop().time()
        if self._timer is None:
            self._look_at(self._since + self._seconds)

    def _look_at(self, when: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        now = asyncio.get_running_loop().time()
        lost_s = self._lost_s(self._since)
        until = self._since + min(self._seconds + lost_s, MAX_TIMES * self._seconds)
        if now < until:
            self._look_at(until)
        else:
            self._timeout.reschedule(now)
