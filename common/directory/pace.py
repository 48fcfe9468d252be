"""How often a replica is brought up to date: often while it is asked about prompts, seldom while nobody asks."""

import asyncio

from common.core.clock import Clock
from common.core.waiting import wait_set
from common.directory.settings import DirectorySettings

SHARE = 0.1
"""Of the time since the last question. Chosen: whoever asks again finds what happened in the first nine tenths of its
own silence, and behind an answer of four seconds lie half as many rounds as at an even pace."""


class Pace:
    """Times the rounds of one mirror. Writer: the event loop.

    A round costs a router a millisecond of processor time. An answer may take a minute, and what workers tell of their
    pages in it matters to the next prompt alone. The longer none has come, the less likely it comes in a moment, so
    pauses grow from `poll_s` to `quiet_poll_s`. A question in a pause that has grown is answered from the replica as
    it is, and starts a round.
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
        pause_s = SHARE * (self._clock.monotonic() - self._asked_at)
        if pause_s <= self._settings.poll_s:
            await asyncio.sleep(self._settings.poll_s)
            return
        self._asked.clear()
        await wait_set(self._asked, min(pause_s, self._settings.quiet_poll_s))
