"""The step loop without a thread: a task that turns it, and lets each step take the virtual time that it would cost."""

import asyncio
from collections.abc import Callable
from typing import Any

from common.core.step import Step, StepResult
from common.engine.executor import Executor
from common.engine.loop import IDLE_WAIT_S, Turns
from common.kv.storage import PageStorage
from common.transfer.offload import Result
from common.transfer.scope import outlast

TURN_S = 0.0001
"""A turn takes time even when it computes nothing: copying pages, running commands."""


class TimedExecutor:
    """Adds up what its steps cost, for the driver to sleep."""

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self._spent_s = 0.0

    @property
    def storage(self) -> PageStorage:
        return self._inner.storage

    @property
    def vocab_size(self) -> int:
        return self._inner.vocab_size

    @property
    def max_context(self) -> int:
        return self._inner.max_context

    def run(self, step: Step) -> StepResult:
        result = self._inner.run(step)
        self._spent_s += result.seconds
        return result

    def take_seconds(self) -> float:
        """What was spent since the last call."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return spent_s


class TimedOffload:
    """Work aside that takes `seconds`, half of them after it was done: whoever asked is still in the middle then."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def run(self, function: Callable[[], Result]) -> Result:
        return await outlast(asyncio.ensure_future(self._work(function)))

    async def _work(self, function: Callable[[], Result]) -> Result:
        await asyncio.sleep(self._seconds / 2)
        result = function()
        await asyncio.sleep(self._seconds / 2)
        return result


class TaskDriver:
    """Driver on the simulation's loop. The word of a step comes after its time has passed."""

    def __init__(self, turns: Turns[Any], on_failure: Callable[[Exception], None], executor: TimedExecutor) -> None:
        self._turns = turns
        self._on_failure = on_failure
        self._executor = executor
        self._is_stopping = False
        self._awake = asyncio.Event()
        turns.wake = self._awake.set
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="steps")

    def stop(self, timeout_s: float = 10.0) -> bool:
        """After the current turn. The task is the process's, which sees that it ends."""
        self._is_stopping = True
        self._awake.set()
        return True

    async def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._awake.clear()
                did_work = self._turns.step()
                await asyncio.sleep(TURN_S + self._executor.take_seconds())
                self._turns.tell()
                if not did_work:
                    await self._wait()
        except Exception as error:  # noqa: BLE001 - as the thread does: the process is told, once
            self._on_failure(error)
        finally:  # stopped or killed: whoever waits for a turn is told, as by the thread
            self._turns.end()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(IDLE_WAIT_S):
                await self._awake.wait()
        except TimeoutError:
            return
