"""Messages to one client's call, one at a time, without a task that wakes for each of them.

    FREE --begin--> BUSY: the transport has the message, and tells when it takes the next --is_free--> FREE
                     | what comes meanwhile gathers with the owner
                     '--the write fails--> FAILED, for good

A write of grpc's hands its message over before it first waits. So whoever has a token starts the write in its own turn
of the loop, and whoever has the next one finds it ended: no task and no callback runs in between, a quarter of what the
router's own code costs.
"""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

Context = Any
"""grpc.aio.ServicerContext, or the simulation's."""


class Pen:
    """Writer: the event loop. Owner: the handler of the call, which hears of failures in `wait_free`.

    A write that is under way when the owner leaves ends with the call, and nobody hears of it.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._writing: Coroutine[Any, Any, None] | None = None
        self._taken: asyncio.Future[Any] | None = None
        """What the write waits for."""
        self._failure: BaseException | None = None
        self._owner: asyncio.Future[None] | None = None

    def is_free(self) -> bool:
        """Whether a message may begin. Here the last write ends, if the transport has taken its message."""
        if self._taken is not None and self._taken.done():
            self._go_on()
        return self._writing is None and self._failure is None

    def begin(self, message: object) -> None:
        """Hands `message` over. Only while free. Raises nothing: what goes wrong, the owner hears."""
        assert self._writing is None, "two messages at a time"
        assert self._failure is None, "a message after one that failed"
        self._writing = self._context.write(message)
        self._go_on()

    async def wait_free(self) -> None:
        """Until the last message was taken. Raises what went wrong with it. The end of the call ends every write."""
        while self._writing is not None:
            self._owner = asyncio.get_running_loop().create_future()
            self._listen()
            try:
                await self._owner  # bounded: by the call
            finally:
                self._owner = None
        if self._failure is not None:
            raise self._failure

    def leave(self) -> None:
        """Nothing is begun any more, and nobody asks: the write that is under way ends by itself. Idempotent."""
        self._listen()

    def _listen(self) -> None:
        if self._taken is not None:
            self._taken.add_done_callback(self._hear)

    def _hear(self, taken: "asyncio.Future[Any]") -> None:
        if taken is self._taken:  # or somebody looked before
            self._go_on()
            self._listen()
        if self._owner is not None and not self._owner.done():
            self._owner.set_result(None)

    def _go_on(self) -> None:
        """The write's own code up to its next wait."""
        assert self._writing is not None
        self._taken = None
        try:
            waits_for = self._writing.send(None)
        except StopIteration:
            self._writing = None
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # carried to the owner
            self._writing, self._failure = None, error
        else:
            assert isinstance(waits_for, asyncio.Future), f"a write waits for {waits_for!r}"
            self._taken = waits_for
