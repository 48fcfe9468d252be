"""Ctrl-C as a person means it: once to end in order, twice to end now."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """Guards one piece of work at a time. `insisted` is set by the second signal."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._is_asked = False
        self.insisted = asyncio.Event()

    async def guard(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run it to its end. True when a signal cancelled it; `tell` is called at that moment."""
        loop, task = asyncio.get_running_loop(), asyncio.create_task(work)
        for number in SIGNALS:
            loop.add_signal_handler(number, self._hear, task)
        try:
            await task
        except asyncio.CancelledError:
            if not self._is_asked:
                raise
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
        return self._is_asked

    def _hear(self, task: asyncio.Task[None]) -> None:
        if self._is_asked:
            self.insisted.set()
            return
        self._is_asked = True
        self._tell()
        task.cancel()
