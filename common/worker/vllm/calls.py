"""The life of one Generate call: placed as work, followed to its end, given up when its client goes."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Protocol

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.core.errors import (
    BatonError,
    DeadlineExceeded,
    InternalError,
    Reason,
    Refused,
    TransferFailed,
)
from common.core.events import WorkFailed
from common.core.ids import RequestId, RouterRef
from common.core.request import Work
from common.core.seeds import mint_choices
from common.core.ticket import Ticket
from common.core.worker import Role
from common.worker.servicer import CancelItem
from common.worker.vllm.asked import Asked

ATTEMPT = 1
MAX_REMEMBERED = 4096
"""Finished prefill calls whose pages may wait still: above what a worker keeps."""


class Placing(Protocol):
    """What a role offers. Prefill keeps the pages; decode fetches a ticket's, and reads the prompt itself without."""

    async def place(self, work: Work, ticket: Ticket | None) -> None: ...

    def cancel(self, router: RouterRef, items: tuple[CancelItem, ...]) -> None: ...


class Calls:
    """Names of calls and of the work behind them. Writer: the event loop.

    A gateway uses one name for both legs, and again for another try, so work has a name of its own.
    """

    def __init__(self, placing: Placing, *, me: RouterRef, scope: bytes, clock: Clock, entropy: Entropy) -> None:
        self._placing = placing
        self._me = me
        self._scope = scope
        self._clock = clock
        self._entropy = entropy
        self._works: OrderedDict[RequestId, str] = OrderedDict()

    def work(self, asked: Asked, *, remaining_s: float) -> Work:
        seed = asked.seed
        if seed is None:
            seed = int.from_bytes(blake2b(asked.name.encode(), digest_size=8, person=b"baton.vllm.seed").digest())
        return Work(
            request=RequestId(f"{asked.name}~{self._entropy.bits(48):012x}"),
            attempt=ATTEMPT,
            prompt=asked.prompt,
            choices=mint_choices(seed, asked.num_choices),
            sampling=asked.sampling,
            deadline=self._clock.monotonic() + remaining_s,
            cache_scope=self._scope,
            router=self._me,
        )

    @contextmanager
    def running(self, work: Work, name: str, *, keeps: bool) -> Iterator[None]:
        """Known by its name for the block, and after it where pages are kept. A block that breaks off gives it up."""
        self._works[work.request] = name
        while len(self._works) > MAX_REMEMBERED:
            self._works.popitem(last=False)
        try:
            yield
        except BaseException:
            self.give_up(work.request)
            raise
        if not keeps:
            self._works.pop(work.request, None)

    def named(self, name: str) -> tuple[RequestId, ...]:
        return tuple(request for request, known in self._works.items() if known == name)

    def give_up(self, request: RequestId, choice: int | None = None) -> None:
        """Idempotent; kept pages are released too. With `choice` only that one ends."""
        choices = () if choice is None else (choice,)
        if choice is None:
            self._works.pop(request, None)
        item = CancelItem(request=request, attempt=ATTEMPT, reason=Reason.CANCELLED, choices=choices)
        self._placing.cancel(self._me, (item,))


def failure_of(event: WorkFailed) -> BatonError:
    """What the caller hears of work that failed."""
    if event.reason is Reason.DEADLINE_EXCEEDED:
        return DeadlineExceeded(message=event.message)
    if event.reason in (Reason.NO_PAGES, Reason.LOAD_SHED):
        return Refused(message=event.message, reason=event.reason)
    if event.role is Role.PREFILL:
        return TransferFailed(message=event.message, reason=event.reason)
    return InternalError(message=event.message, reason=event.reason)
