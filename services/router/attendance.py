"""Since when nobody can write: what the router refuses by, and is ready by."""

import asyncio

from common.core.clock import Clock


class Attendance:
    """Writer: the fleet. Begins absent, as of its making."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._absent_since: float | None = clock.monotonic()
        self._is_present = asyncio.Event()

    @property
    def absent_s(self) -> float:
        """0: somebody is there."""
        return 0.0 if self._absent_since is None else self._clock.monotonic() - self._absent_since

    async def wait_present(self) -> None:
        """Until somebody is there."""
        await self._is_present.wait()  # bounded: the caller's task ends with the app

    def note(self, *, is_present: bool) -> None:
        """As counted just now. Idempotent."""
        if is_present:
            self._absent_since = None
            self._is_present.set()
        elif self._absent_since is None:
            self._absent_since = self._clock.monotonic()
            self._is_present.clear()
