"""Prefixes that are fetched, as the event loop sees them: asked for by ticket, received, landed, given up when late."""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from common.core.errors import BatonError
from common.core.ids import ReservationId, TransferId
from common.core.request import Work
from common.core.ticket import PrefixTicket
from common.engine.loop import Turns
from common.kv.hashing import context_digest
from common.kv.layout import PageLayout
from common.observe.logging import get_log
from common.transfer.endpoint import KvEndpoint
from common.transfer.expectation import Arrival, Expectation
from common.transfer.messages import Finale, Outcome
from common.worker.landing import Lander
from common.worker.permit import Permit
from common.worker.prefix_desk import MAX_PATIENCE_S, PrefixClosed, PrefixDesk, PrefixPromise

_LOG = get_log("worker")


class FetchingCore(Protocol):
    """A core that fetches prefixes: its desk is only touched on its step loop."""

    @property
    def prefixes(self) -> PrefixDesk: ...


@dataclass(frozen=True, slots=True)
class _Fetch:
    permit: Permit
    late: asyncio.TimerHandle


class PrefixFetches:
    """The sink of every prefix that is expected. Writer: the event loop. Bounded by the prompts that the core takes.

    Nothing that goes wrong here fails a prompt: the desk hears that nothing more comes, and it is read.
    """

    def __init__(
        self, endpoint: KvEndpoint, *, core: FetchingCore, turns: Turns[Any], lander: Lander, layout: PageLayout
    ) -> None:
        self._endpoint = endpoint
        self._desk = core.prefixes
        self._turns = turns
        self._layout = layout
        self._lander = lander
        self._fetches: dict[ReservationId, _Fetch] = {}

    async def begin(self, work: Work, promise: PrefixPromise, prefix: PrefixTicket) -> None:
        """Has the missing pages pushed. Returns when the holder has agreed, or when it is clear that none will come."""
        reservation, transfer = promise.reservation, TransferId(promise.reservation, work.attempt)
        patience_s = min(prefix.patience_s, MAX_PATIENCE_S)
        loop = asyncio.get_running_loop()
        late = loop.call_later(patience_s, self._give_up, reservation, "late")
        self._fetches[reservation] = _Fetch(promise.permit, late)
        context = work.context[: promise.total_pages * self._layout.page_size]
        expectation = Expectation(
            transfer=transfer,
            request=work.request,
            total_pages=promise.total_pages,
            held_pages=promise.held_pages,
            page_bytes=self._layout.page_bytes,
            choices=(),
            verifies=True,
        )
        try:
            self._endpoint.inbound.expect(expectation, self)
            async with asyncio.timeout(patience_s):
                await self._endpoint.pull(
                    prefix.ticket,
                    transfer,
                    work.request,
                    held_pages=promise.held_pages,
                    context_digest=context_digest(context, work.cache_scope),
                )
        except TimeoutError:
            self._give_up(reservation, "late")
        except BatonError as error:
            self._give_up(reservation, error.reason)
        except BaseException:  # a cancelled call: nobody waits for these pages
            self._give_up(reservation, "cancelled")
            raise

    # What the transfer room says

    def on_run(self, arrival: Arrival) -> None:
        self._lander.add(arrival, self._fetches[arrival.transfer.reservation].permit, self._desk)

    def on_finale(self, transfer: TransferId, finale: Finale) -> None:
        """Behind the last landing, of which the desk hears first."""
        self._turns.post(partial(self._desk.close, transfer.reservation))

    def on_failed(self, transfer: TransferId, outcome: Outcome) -> None:
        self._give_up(transfer.reservation, outcome.reason or outcome.state)

    # What the core says

    def closed(self, event: PrefixClosed) -> None:
        """None of its pages is waited for any more."""
        self._forget(event.reservation)

    def _give_up(self, reservation: ReservationId, why: str) -> None:
        """The prompt is read as it is. Idempotent."""
        if reservation not in self._fetches:
            return
        _LOG.info("prefix_not_fetched", reservation=reservation, why=why)
        self._forget(reservation)
        self._turns.post(partial(self._desk.close, reservation))

    def _forget(self, reservation: ReservationId) -> None:
        if (fetch := self._fetches.pop(reservation, None)) is not None:
            fetch.late.cancel()
        self._endpoint.inbound.forget(reservation)
