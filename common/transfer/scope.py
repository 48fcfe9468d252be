"""Background work with an owner: no task outlives its scope."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from common.transfer.counters import TransferCounters

Result = TypeVar("Result")
TellBug = Callable[[str, BaseException], None]
"""Hears a task's name and what it ended with. Passed in, because a session with a GPU has no library that logs."""


class TaskScope:
    """Tasks that are cancelled and awaited when the scope closes. Unlike a TaskGroup, one failure spares the others.

    A bug ends only its own task: it is told, counted as incident `bug`, and the first one is kept in `first_bug`.
    """

    def __init__(self, counters: TransferCounters, tell_bug: TellBug | None = None) -> None:
        self._counters = counters
        self._tell_bug = tell_bug
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.first_bug: BaseException | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def is_closed(self) -> bool:
        """Nothing more may be started."""
        return self._closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Work that nobody waits for but the scope: it handles every BatonError itself, and what escapes is a bug."""
        self.start(work, name=name).add_done_callback(self._note_bug)

    def start(self, work: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
        """Work whose result the caller awaits."""
        if self._closed:
            work.close()
            raise RuntimeError(f"{name}: the scope is closed")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def close(self) -> None:
        """Cancels what runs and waits for its end: bounded, for every wait of this room has a deadline. Idempotent."""
        self._closed = True
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait(tuple(self._tasks))

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: who started the task may have been cancelled before its end

    def _note_bug(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._counters.incidents["bug"] += 1
            self.first_bug = self.first_bug or error
            if self._tell_bug is not None:
                self._tell_bug(task.get_name(), error)


async def outlast(work: asyncio.Future[Result]) -> Result:
    """The result of `work`, which is finished even if the caller is cancelled meanwhile: it holds a buffer.

    The cancellation is passed on afterwards. `work` itself must have a deadline. Its error is freed with whoever
    catches it, and so are the buffers in the frames that it passed: a cycle would keep them for a thousand requests.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await wait_over(work)
        raise
    finally:
        del work  # an error's trace leads here, and must not lead on to who keeps the error


async def wait_over(*work: asyncio.Future[Any]) -> None:
    """Until all of it is over, however it ends and however often the caller is cancelled meanwhile: it holds buffers.

    No cancellation is passed on: for who is on the way out already. `work` must have deadlines.
    """
    while any(not each.done() for each in work):
        try:
            await asyncio.wait(work)  # bounded: `work` has deadlines
        except asyncio.CancelledError:
            continue
    for each in work:
        if not each.cancelled():
            each.exception()  # retrieved: what the caller raises is another story
