"""Requests that outlive their client's connection, for a while.

    begin -> READ --call ends--> WAITING --Resume--> READ ...
                                    |--window over--> expired: the work is cancelled, the id is remembered
    the journey may end in either state; what was given stays until the window is over

One reader at a time: a Resume takes the place of a call that does not know yet that its client is gone.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from common.core.aftermath import again
from common.core.errors import Fenced, InternalError, NotFound, Reason
from common.core.ids import RequestId, TenantId
from common.observe.logging import get_log
from common.text.choice import ChoiceText
from services.router.delta import SCORE_COST_BYTES, TOKEN_COST_BYTES, Delta
from services.router.dispatch import Dispatcher
from services.router.intake import DEFAULT_TENANT
from services.router.journey import Journey
from services.router.replay import Replay
from services.router.reply import FLUSH_S, missed_the_end
from services.router.request import Request

MAX_EXPIRED = 4096
"""Chosen: so many ids are known to have expired; of older ones nothing is known."""

Name = tuple[TenantId, RequestId]
"""Tenants choose ids without knowing of each other: one may not take another's place."""

_LOG = get_log("router")


class Held:
    """One resumable request. Writer: the event loop. `on_expired` is called once, when its window is over."""

    def __init__(
        self, journey: Journey, replay: Replay, *, window_s: float, on_expired: "Callable[[Held], None]"
    ) -> None:
        self.journey = journey
        self.replay = replay
        self.rest_bytes = 0
        """What an ended request still holds beside its replay. Writer: Resumption."""
        self._window_s = window_s
        self._on_expired = on_expired
        self._is_over = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._num_readers = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def request(self) -> Request:
        return self.journey.request

    @property
    def is_over(self) -> bool:
        """Its journey ended; it is kept for its client alone."""
        return self._is_over.is_set()

    async def live(self, place: ExitStack) -> None:
        """The journey from beginning to end, whoever reads. Gives its place in the dispatcher back."""
        with place:
            try:
                await self.journey.run()
            except Exception as error:  # noqa: BLE001 - a bug ends this request, not the router's other ones
                _LOG.error("journey_failed", request=self.request.id, exc_info=error)
                told = InternalError(message=f"{self.request.id} failed: the router's log has the details")
                self.journey.error = self.journey.error or told
            finally:
                self._is_over.set()

    def given_since(self, seen: Sequence[int]) -> tuple[Delta, ...]:
        """What went out before, from the given indexes on. Raises as Replay."""
        return self.replay.since(seen)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """The caller reads, alone; who read before is sent away. The window opens when the last one leaves."""
        self._num_readers += 1
        self._stop_timer()
        try:
            if self._writer is not None:
                self._writer.cancel()
            async with self._turn:
                yield
        finally:
            self._num_readers -= 1
            if not self._num_readers:
                self._timer = asyncio.get_running_loop().call_later(self._window_s, self._on_expired, self)

    async def attend(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Writes until the request is over and the client has everything. Inside `reading`.

        Raises the error that ended the request, Fenced when another call took this one's place, or Refused when the
        client stopped reading before it had the last response.
        """
        self._check_alone()
        self._writer = writer = asyncio.create_task(write())
        over = asyncio.create_task(self._is_over.wait())
        try:
            await asyncio.wait({writer, over}, return_when=asyncio.FIRST_COMPLETED)  # bounded: by its deadline
            await asyncio.wait({writer}, timeout=FLUSH_S if self._is_over.is_set() else None)
        finally:
            self._writer = None
            over.cancel()
            writer.cancel()
            await asyncio.wait({writer, over})  # bounded: both are cancelled
        if writer.cancelled():
            self._check_alone()
        else:
            writer.result()
        if self.journey.error is not None:
            raise again(self.journey.error)
        if writer.cancelled():
            raise missed_the_end(self.request.id)

    def _check_alone(self) -> None:
        if self._num_readers > 1:
            raise Fenced(message=f"{self.request.id} is read by another call now")

    def close(self) -> None:
        """Nobody will come any more."""
        self._stop_timer()
        self.journey.cancel()
        self.replay.clear()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Resumption:
    """Every resumable request of this router. Writer: the event loop. `run` lives in the app's TaskGroup."""

    def __init__(self, dispatcher: Dispatcher, *, window_s: float, request_bytes: int, total_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._window_s = window_s
        self._request_bytes = request_bytes
        self._total_bytes = total_bytes
        self._held: OrderedDict[Name, Held] = OrderedDict()
        self._expired: OrderedDict[Name, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def begin(self, request: Request, texts: Sequence[ChoiceText]) -> Held:
        """Starts the request's journey. Raises as the dispatcher does."""
        replay = Replay(len(request.choices), max_bytes=self._request_bytes, on_growth=self._grow)
        with ExitStack() as stack:
            journey = stack.enter_context(self._dispatcher.enter(request, texts, replay=replay))
            place = stack.pop_all()
        name = (request.tenant, request.id)
        if (former := self._held.pop(name, None)) is not None:
            self._drop(former)
        self._expired.pop(name, None)
        held = self._held[name] = Held(journey, replay, window_s=self._window_s, on_expired=self._expire)
        task = asyncio.get_running_loop().create_task(held.live(place), name=f"journey {request.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _ended: self._count_rest(held))
        return held

    def find(self, request_id: str, tenant: str) -> Held:
        """Raises NotFound: RESUME_EXPIRED for one that was resumable until lately; another tenant's is not known."""
        name = (TenantId(tenant or DEFAULT_TENANT), RequestId(request_id))
        held = self._held.get(name)
        if held is not None:
            return held
        if name in self._expired:
            raise NotFound(
                message=f"request {request_id[:128]} could be resumed for {self._window_s:g} s",
                reason=Reason.RESUME_EXPIRED,
            )
        raise NotFound(message=f"request {request_id[:128]} is not resumable here", reason=Reason.REQUEST_NOT_FOUND)

    async def close(self) -> None:
        """Ends every request that is left, and waits for it."""
        for held in self._held.values():
            held.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))  # bounded: all are cancelled
        self._held.clear()

    def _expire(self, held: Held) -> None:
        name = (held.request.tenant, held.request.id)
        if self._held.get(name) is held:
            del self._held[name]
            self._expired[name] = None
            while len(self._expired) > MAX_EXPIRED:
                self._expired.popitem(last=False)
        self._drop(held)

    def _drop(self, held: Held) -> None:
        held.close()
        self.num_bytes -= held.rest_bytes
        held.rest_bytes = 0

    def _count_rest(self, held: Held) -> None:
        """The prompt and its log probabilities of a request that ended are kept for its client alone, so they count."""
        request = held.request
        if self._held.get((request.tenant, request.id)) is held:
            num_scores = 0 if request.sampling.prompt_logprobs is None else 2 + request.sampling.prompt_logprobs
            held.rest_bytes = len(request.prompt) * (TOKEN_COST_BYTES + num_scores * SCORE_COST_BYTES)
            self._grow(held.rest_bytes)

    def _grow(self, num_bytes: int) -> None:
        """Over the bound the oldest requests expire, or can be resumed from their present end only while they run."""
        self.num_bytes += num_bytes
        if num_bytes <= 0:
            return
        oldest = iter(tuple(self._held.values()))
        while self.num_bytes > self._total_bytes and (held := next(oldest, None)) is not None:
            if held.is_over:
                self._expire(held)
            else:
                held.replay.clear()
