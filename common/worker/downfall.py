"""Why a worker ends although nobody asked it to. What is told first is the cause: whatever fails behind it, while its
tasks are taken down and work still arrives, follows from it."""

import asyncio
from collections.abc import Awaitable, Callable

from common.core.errors import BatonError, InternalError
from common.observe.logging import get_log

_LOG = get_log("worker")


class Downfall:
    """Crash-only: the first failure is told with its trace and ends the worker; a supervisor starts another one.

    Made on the event loop, which calls `end` behind the first failure. Writer: whoever notices one, on any thread.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._loop = asyncio.get_running_loop()
        self.cause: BatonError | None = None

    def note(self, error: Exception) -> None:
        """Something that this worker lives by has failed."""
        if self.cause is not None:
            _LOG.warning("worker_failed_further", error=repr(error))
            return
        _LOG.error("worker_failed", error=repr(error), exc_info=error)
        if isinstance(error, BatonError):
            self.begin(error)
        else:
            cause = InternalError(message=f"the worker failed: {error!r}")
            cause.__cause__ = error
            self.begin(cause)

    def begin(self, cause: BatonError) -> None:
        """It ends for this, unless it does already."""
        self.cause = self.cause or cause
        self._loop.call_soon_threadsafe(self._end)

    async def guard(self, work: Awaitable[None]) -> None:
        """A task that this worker lives by. Its failure is told here: a group of tasks would tell it only when the
        last of the others has ended, and refuse late work before, which would look like the cause."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  # a loop's edge: told once, then drain and exit
            self.note(error)
