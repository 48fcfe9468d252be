"""The one step loop of a worker: commands in, one step, events out.

        event loop                       step loop thread
   post(command) / call(command)  --->  turn(): run waiting commands, core.advance(), deliver(core.take_events())
   deliver(events)                <---

The core is an ordinary single-threaded object. Others never touch it: they ask the loop to run a method between steps.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from common.core.errors import Reason, Refused, Unavailable
from common.engine.look import Look

Answer = TypeVar("Answer")
Event_co = TypeVar("Event_co", covariant=True)
Event = TypeVar("Event")

IDLE_WAIT_S = 0.25  # Chosen: deadlines and leases inside a core are checked at least this often while nothing happens.


class StepCore(Protocol[Event_co]):
    """What a step loop drives. Never waits for a network; `advance` computes at most one step."""

    def advance(self) -> bool:
        """One step. False when there was nothing to compute."""
        ...

    def take_events(self) -> tuple[Event_co, ...]:
        """Events since the last call, in order."""
        ...

    def look(self) -> Look:
        """What others may know of it, as of now. Cheap: asked for after every turn."""
        ...


class Turns(Generic[Event]):
    """The loop's body without a thread: `turn` is one round. Writer of the core: whoever calls `turn`, always the same.

    `call` is for new work, and refuses it while `max_commands` wait. `post` is for what is under way already: each post
    stands for a sequence, a buffer or a transfer that is bounded elsewhere, so it is never refused and nothing is lost.
    """

    def __init__(
        self, core: StepCore[Event], *, deliver: Callable[[tuple[Event, ...]], None], max_commands: int = 4096
    ) -> None:
        self._core = core
        self._deliver = deliver
        self._commands: deque[_Command] = deque()
        self._is_over = False
        self._max_commands = max_commands
        self.wake: Callable[[], None] = _nobody_sleeps
        """How to wake whoever drives the turns: set by the driver, called after every `post`, from any thread."""
        self.use_rest: Callable[[], bool] = _nothing_to_prepare
        """A moment's work on the core's objects for which there is time behind a turn that computed nothing. False:
        none is left. Whoever made them sets it before the first turn."""
        self.turns = 0
        self.look = core.look()
        """The core as of the last turn: immutable, so any thread may read it."""

    def post(self, command: Callable[[], object]) -> None:
        """Run `command` on the loop before its next step. Any thread may call. Behind the last turn it is dropped."""
        self._append(_Command(run=command))

    def call(self, command: Callable[[], Answer], *, is_new_work: bool = True) -> "asyncio.Future[Answer]":
        """Like `post`, for the event loop only: the future carries what the command returned or raised.

        Raises Refused when too many commands wait, unless it brings no new work: a drain is not turned away by what it
        waits for. The future carries Unavailable when there is no next turn.
        """
        if is_new_work and len(self._commands) >= self._max_commands:
            raise Refused(message=f"the step loop has {self._max_commands} commands waiting", reason=Reason.LOAD_SHED)
        home = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = home.create_future()

        def resolve(answer: Answer | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(answer)  # type: ignore[arg-type]  # None only together with an error
            else:
                future.set_exception(error)

        def run() -> None:
            try:
                answer = command()
            except Exception as error:  # noqa: BLE001  # carried to the caller, who knows what to do
                home.call_soon_threadsafe(resolve, None, error)
            else:
                home.call_soon_threadsafe(resolve, answer, None)

        def fail(error: Exception) -> None:
            home.call_soon_threadsafe(resolve, None, error)

        self._append(_Command(run=run, fail=fail))
        return future

    def end(self) -> None:
        """There is no next turn: whoever waits for one is told, now and later. Once the driver stopped, any thread."""
        self._is_over = True
        while self._commands:
            with suppress(IndexError):  # another thread was faster
                self._commands.popleft().fail(
                    Unavailable(message="this worker's step loop has ended", reason=Reason.DRAINING)
                )

    def _append(self, command: "_Command") -> None:
        self._commands.append(command)
        self.wake()
        if self._is_over:
            self.end()

    def turn(self) -> bool:
        """Commands, at most one step, events. False when the core had nothing to compute."""
        did_work = self.step()
        self.tell()
        return did_work

    def step(self) -> bool:
        """The first half of a turn: nobody hears of it before `tell`. Virtual time passes between the two."""
        while self._commands:
            self._commands.popleft().run()
        return self._core.advance()

    def hasten(self) -> None:
        """What has happened so far becomes known now, amid a step. For the core, on its own thread."""
        if events := self._core.take_events():
            self._deliver(events)

    def tell(self) -> None:
        """The second half: what the step led to becomes known."""
        events = self._core.take_events()
        self.look = self._core.look()
        if events:
            self._deliver(events)
        self.turns += 1


class StepThread:
    """Runs the turns on a thread of its own. A failure inside stops the loop and is told to `on_failure`, once."""

    def __init__(self, turns: Turns[Event], *, on_failure: Callable[[Exception], None], name: str) -> None:
        self._turns = turns
        self._on_failure = on_failure
        self._is_stopping = threading.Event()
        self._awake = threading.Event()
        turns.wake = self._awake.set
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Stop after the current turn. True when the thread ended in time."""
        self._is_stopping.set()
        self._awake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._is_stopping.is_set():
                self._awake.clear()  # before the turn: a command posted during it is not slept through
                if not self._turns.turn() and not self._turns.use_rest():
                    self._awake.wait(IDLE_WAIT_S)
        except Exception as error:  # noqa: BLE001  # the loop's edge: the process must drain and exit
            self._on_failure(error)
        finally:
            self._turns.end()


def _nobody_waits(_error: Exception) -> None:
    """What was posted has no caller to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """What to run between two steps, and what to do when it never will be."""

    run: Callable[[], object]
    fail: Callable[[Exception], None] = _nobody_waits


def _nothing_to_prepare() -> bool:
    return False


def _nobody_sleeps() -> None:
    """Turns that are driven by hand are awake."""
