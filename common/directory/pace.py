"""How often a replica is brought up to date: often while it is asked about prompts, seldom while nobody asks."""

import asyncio

from common.core.clock import Clock
from common.core.waiting import wait_set
from common.directory.settings import DirectorySettings

QUIET_S = 5.0
"""Chosen: longer than the turns of a conversation are apart where programs talk, short beside an hour without work."""


class Pace:
    """Times the rounds of one mirror. Writer: the event loop.

    A round costs a router a millisecond of processor time. An answer may take a minute, and what workers tell of their
    pages in it matters to the next prompt alone. The first question after a quiet time is answered from a replica that
    is at most `quiet_poll_s` old, and starts a round.
    """

    def __init__(self, settings: DirectorySettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._asked_at = clock.monotonic()
        self._asked = asyncio.Event()

    def note_question(self) -> None:
        """Somebody looks a prompt up."""
        self._asked_at = self._clock.monotonic()
        self._asked.set()

    async def wait_turn(self) -> None:
        """Until the next round is due."""
        if self._clock.monotonic() - self._asked_at < QUIET_S:
            await asyncio.sleep(self._settings.poll_s)
            return
        self._asked.clear()
        await wait_set(self._asked, self._settings.quiet_poll_s)
