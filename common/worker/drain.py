"""How a worker ends without losing anything.

SERVING
   | asked (SIGTERM, Drain), superseded, or something failed that it lives by (downfall.py)
   v
DRAINING: says so (directory, health, readiness, every report) and refuses new work. What runs ends, or is handed to
   |      another worker when its router asks for it; kept pages are fetched; prefill's exports are acknowledged or
   |      expire. Nothing else is waited for.
   | idle             | grace over, a second signal, or a failure
   v                  v
LEAVING <---------- CUT: what is left is told to its routers, who go on elsewhere
   withdraws from the directory, ends streams and listener, exits 0 (or with the failure)
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from common.core.clock import Clock
from common.core.errors import Unavailable
from common.core.waiting import wait_done, wait_set
from common.engine.look import Look
from common.engine.loop import Turns
from common.observe.logging import get_log

CUT_S = 1.0
"""Chosen: many turns of any step loop. One that does not turn any more ends with its process."""

_LOG = get_log("worker")


class Leaver(Protocol):
    """What a role does at the end."""

    async def wait_idle(self) -> None:
        """Until nothing that the core does not know of is under way."""
        ...

    async def cut(self) -> None:
        """Give up whatever is left, and tell its routers that this worker leaves."""
        ...


class Drain:
    """One worker's drain, however often it is asked for. Writer: its node, which says that it drains and then waits."""

    def __init__(
        self, turns: Turns[Any], *, look: Callable[[], Look], heartbeat_s: float, hurry: asyncio.Event, clock: Clock
    ) -> None:
        """`look` runs on the step loop. `hurry` ends every grace."""
        self._turns = turns
        self._look = look
        self._heartbeat_s = heartbeat_s
        self._hurry = hurry
        self._clock = clock
        self._until: float | None = None
        self.told = asyncio.Event()
        """Set whenever the core said something: it may be idle now."""

    @property
    def left_s(self) -> float | None:
        """Until what is left is cut; None while nobody asked for a drain."""
        return None if self._until is None else max(0.0, self._until - self._clock.monotonic())

    def begin(self, grace_s: float) -> None:
        """The sooner end counts, when several ask."""
        until = self._clock.monotonic() + grace_s
        self._until = until if self._until is None else min(until, self._until)

    async def run(self, role: Leaver, *, is_failing: bool) -> int:
        """After `begin`, and once everybody was told. Returns the sequences that had to be cut."""
        left_s = self.left_s
        assert left_s is not None, "a drain that nobody began"
        try:
            if await wait_done(self._wait_idle(role), 0.0 if is_failing else left_s, hurry=self._hurry):
                return 0
        except Unavailable:  # the step loop ended meanwhile: nothing that is left will be
            is_failing = True
        return await self._cut(role, is_failing=is_failing)

    async def _wait_idle(self, role: Leaver) -> None:
        """Until nothing waits, runs, is promised or kept. Asked on the step loop, behind all work accepted before.

        Most ends tell of themselves; a cancelled sequence leaves without a word and is missed at the next heartbeat.
        """
        while True:
            self.told.clear()
            look = await self._turns.call(self._look, is_new_work=False)
            if look.is_idle:
                break
            await wait_set(self.told, self._heartbeat_s)
        await role.wait_idle()

    async def _cut(self, role: Leaver, *, is_failing: bool) -> int:
        """Routers go on elsewhere sooner when they are told than when they find out by silence."""
        load = self._turns.look.load
        left = load.running_sequences + load.waiting_requests
        _LOG.warning("drain_cut_short", sequences=left)
        if not is_failing:
            with suppress(TimeoutError):
                async with asyncio.timeout(CUT_S):
                    await role.cut()
                    await self._turns.call(self._look, is_new_work=False)  # behind the turn that tells of it
        return left
