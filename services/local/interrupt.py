"""Ctrl-C as a person means it: once to end in order, twice to end now."""

import asyncio
import os
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
            loop.add_signal_handler(number, self._hear, number, task)
        try:
            await task
        except asyncio.CancelledError:
            if not self._is_asked:
                raise
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
        return self._is_asked

    def _hear(self, number: signal.Signals, task: asyncio.Task[None]) -> None:
        if number is signal.SIGHUP:
            _mute()
        if self._is_asked:
            self.insisted.set()
            return
        self._is_asked = True
        task.cancel()
        self._tell()


def _mute() -> None:
    """The terminal is gone: what is still printed must not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
