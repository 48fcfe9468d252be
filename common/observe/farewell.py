"""SIGTERM and SIGINT as an orchestrator means them: once to drain, twice to be done with it. Before: early.py.

SIGHUP drains as well, however often it comes: the kernel and the shell both tell of a terminal that closed.
"""

import asyncio
import signal
from collections.abc import Callable

from common.core.waiting import wait_set
from common.observe.early import heard


class Farewell:
    """`asked`: leave in order, within the grace. `insisted`: the grace is over now; what is left is cut, in order.

    Writer: the process's signal handlers, once it listens.
    """

    def __init__(self, on_asked: Callable[[], None] | None = None) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()
        self._on_asked = on_asked

    def listen(self) -> "Farewell":
        """From now on signals are heard here."""
        loop = asyncio.get_running_loop()
        for number in heard():
            loop.add_signal_handler(number, self.ask if number is signal.SIGHUP else self.hear)
        return self

    def hear(self) -> None:
        """One signal more."""
        if self.asked.is_set():
            self.insisted.set()
        else:
            self.ask()

    def ask(self) -> None:
        """To leave in order: once is enough."""
        if self.asked.is_set():
            return
        self.asked.set()
        if self._on_asked is not None:
            self._on_asked()

    async def wait_insisted(self, timeout_s: float) -> bool:
        """Until somebody insists; False when the time was over first."""
        return await wait_set(self.insisted, timeout_s)
