"""Simulated processes in one event loop: whose turn each callback is, so that one of them can be stopped or killed.

    alive <--freeze, thaw--> frozen        either --kill--> dead

Every callback and task carries the process in which it was made, by context variable. What a frozen process should have
done waits for its thaw, timers included; a dead process's tasks are cancelled and its doors are shut, so that its
clean-up code runs unheard, as if it had not run.
"""

import asyncio
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.timeloop import TimeLoop

CURRENT: ContextVar["Process | None"] = ContextVar("process", default=None)


class Process:
    """One incarnation. Its name is unique for ever. Writer: the world; the loop adds tasks and held callbacks."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.is_frozen = False
        self.is_dead = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.held: list[asyncio.Handle] = []
        self._loop = loop

    def context(self) -> Context:
        """For whatever begins in this process from outside: its main task, an arriving packet."""
        context = Context()
        context.run(CURRENT.set, self)
        return context

    def freeze(self) -> None:
        """SIGSTOP."""
        self.is_frozen = True

    def thaw(self) -> None:
        """SIGCONT: what fell due meanwhile happens now, in order, unless it was cancelled."""
        self.is_frozen = False
        held, self.held = self.held, []
        for handle in held:
            self._loop.call_soon(handle._run, context=Context())

    def kill(self) -> None:
        """SIGKILL. The doors are the world's to shut."""
        self.is_dead = True
        self.thaw()
        for task in tuple(self.tasks):
            task.cancel()


class ProcessHandle(asyncio.Handle):
    """A callback that waits while its process is frozen."""

    __slots__ = ("_process",)

    def __init__(self, process: Process, *args: Any) -> None:
        super().__init__(*args)
        self._process = process

    def _run(self) -> None:
        if self._process.is_frozen:
            self._process.held.append(self)
        elif not self.cancelled():
            super()._run()


class ProcessTimer(asyncio.TimerHandle):
    """A timer that waits while its process is frozen."""

    __slots__ = ("_process",)

    def __init__(self, process: Process, *args: Any) -> None:
        super().__init__(*args)
        self._process = process

    def _run(self) -> None:
        if self._process.is_frozen:
            self._process.held.append(self)
        elif not self.cancelled():
            super()._run()


class NumberedTask(asyncio.Task[Any]):
    """A task whose place in a set depends on when it was made, not on where in memory: runs repeat exactly."""

    def __init__(self, number: int, *args: Any, **kwargs: Any) -> None:
        self._number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


def make_task(loop: "TimeLoop", work: Any, **options: Any) -> asyncio.Task[Any]:
    """The loop's task factory: a process knows its tasks, and a dead one gets no new ones."""
    task = NumberedTask(next(loop.task_numbers), work, loop=loop, **options)
    context: Context | None = options.get("context")
    process = CURRENT.get() if context is None else context.get(CURRENT)
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(lambda done: process.tasks.pop(done, None))
        if process.is_dead:
            task.cancel()
    return task
