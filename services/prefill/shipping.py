"""Ships what the prefill core gathered: one task per export, in the order of its runs; the next is offered while one is
on its way.

The core never waits for this room: a run that finds no staging stays with the core. A stalled decode worker delays
others only as far as the staging that it holds, and only until its transfers' deadlines. Every way out gives the
staging back and ends the transfer, with exactly one outcome.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from common.core.clock import Clock
from common.core.errors import BatonError, Reason
from common.core.events import StationReached, WorkEvent, WorkFailed
from common.core.ids import RequestId, RouterRef, TransferId
from common.core.worker import Role
from common.engine.tombstones import Tombstones
from common.observe.lifetime import Station
from common.transfer.endpoint import KvEndpoint
from common.transfer.messages import Outcome, OutcomeState
from common.transfer.outbound import OutboundTransfer
from services.prefill.messages import ExportDropped, RunReady

ExportKey = tuple[RequestId, int]


_TOLD: dict[Reason | None, Reason] = {Reason.INVALID_REQUEST: Reason.TRANSFER_FAILED}
"""A receiver that finds fault with an offer speaks of our numbers: no client could ask better."""


class Shipping:
    """Writer: the event loop. It speaks through `tell` (a router), `wake` and `give_up` (the core)."""

    def __init__(
        self,
        endpoint: KvEndpoint,
        *,
        tell: Callable[[RouterRef, WorkEvent], None],
        wake: Callable[[], None],
        give_up: Callable[[RequestId, int], None],
        guard: Callable[[Awaitable[None]], Coroutine[Any, Any, None]],
        outcome_s: float,
        clock: Clock,
    ) -> None:
        """`guard` tells of an export that ends with a bug; it spares the others."""
        self._endpoint = endpoint
        self._tell = tell
        self._wake = wake
        self._give_up = give_up
        self._guard = guard
        self._outcome_s = outcome_s
        self._clock = clock
        self._exports: dict[ExportKey, _Export] = {}
        self._failed = Tombstones()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._group: asyncio.TaskGroup | None = None

    @property
    def num_exports(self) -> int:
        """Exports whose receiver has not had the last word."""
        return len(self._exports)

    async def run(self, stop: asyncio.Event) -> None:
        """Owns every export's task until `stop` is set and the last export has ended."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await stop.wait()  # bounded: the service sets it when it leaves
            self._group = None
            for export in self._exports.values():
                export.end(Reason.DRAINING, "the prefill worker is stopping")

    async def wait_idle(self) -> None:
        """Until every export has ended: acknowledged, failed or expired. Bounded by the transfers' own deadlines."""
        await self._is_idle.wait()

    def ready(self, ready: RunReady) -> None:
        """A run was gathered. Its first run begins the export. After the stop it goes nowhere any more."""
        key = (ready.request, ready.attempt)
        if self._group is None or self._failed.covers(*key):
            self._release(ready)
            return
        export = self._exports.get(key)
        if export is None:
            transfer = TransferId(ready.destination.reservation, ready.attempt)
            export = _Export(self._endpoint.start(transfer, ready.request, ready.destination.worker), ready.router)
            self._exports[key] = export
            self._is_idle.clear()
            self._group.create_task(
                self._guard(self._ship(key, export)), name=f"export {ready.request}#{ready.attempt}"
            )
        export.runs.put_nowait(ready)

    def dropped(self, dropped: ExportDropped) -> None:
        """The core gave the prompt up: what was shipped is void."""
        export = self._exports.get((dropped.request, dropped.attempt))
        if export is not None:
            export.end(Reason.CANCELLED, dropped.reason)

    async def _ship(self, key: ExportKey, export: "_Export") -> None:
        try:
            await self._carry(key, export)
        finally:
            del self._exports[key]
            if export.transfer.outcome.state is not OutcomeState.DONE:
                self._failed.add(*key)
            self._give_back(export)
            if not self._exports:
                self._is_idle.set()
        if export.transfer.outcome.state is not OutcomeState.DONE:
            self._give_up(*key)
            self._report(key, export, export.transfer.outcome)

    async def _carry(self, key: ExportKey, export: "_Export") -> None:
        """Runs that are there are handed over at once: the transfer keeps their order, and says how far ahead of their
        bytes they are offered. As many as there is staging for."""
        async with asyncio.TaskGroup() as under_way:
            while (ready := await export.runs.get()) is not None:  # bounded: the core drops late prompts, the stop all
                under_way.create_task(self._carry_run(key, export, ready))
                if ready.finale is not None:
                    break
            else:
                return
        await export.transfer.wait_outcome(self._outcome_s)

    async def _carry_run(self, key: ExportKey, export: "_Export", ready: RunReady) -> None:
        """Every error of a transfer is the transfer's outcome; it is reported in `_ship`, once."""
        try:
            await self._ship_run(export.transfer, ready)
        except BatonError as error:
            export.end(error.reason, error.message)
            return
        finally:
            self._release(ready)
        self._station(key, export, Station.CHUNK_SHIPPED, pages=ready.run.num_pages, bytes=ready.num_bytes)

    async def _ship_run(self, transfer: OutboundTransfer, ready: RunReady) -> None:
        data = ready.staging.view[: ready.num_bytes] if ready.staging is not None else memoryview(b"")
        if ready.finale is not None:
            await transfer.finish(ready.finale, ready.run, data, ready.sealing)
        else:
            await transfer.ship(ready.run, data, ready.sealing)

    def _release(self, ready: RunReady) -> None:
        if ready.staging is not None:
            ready.staging.release()
            self._wake()

    def _give_back(self, export: "_Export") -> None:
        while not export.runs.empty():
            ready = export.runs.get_nowait()
            if ready is not None:
                self._release(ready)

    def _report(self, key: ExportKey, export: "_Export", outcome: Outcome) -> None:
        request, attempt = key
        failed = WorkFailed(
            request=request,
            attempt=attempt,
            role=Role.PREFILL,
            reason=_TOLD.get(outcome.reason, outcome.reason) or Reason.TRANSFER_FAILED,
            message=outcome.message,
            reservation_stands=True,
        )
        self._tell(export.router, failed)

    def _station(self, key: ExportKey, export: "_Export", name: Station, **facts: float) -> None:
        request, attempt = key
        at = self._clock.monotonic()
        self._tell(export.router, StationReached(request=request, attempt=attempt, name=name, at=at, facts=facts))


class _Export:
    """One prompt's pages on their way to one reservation. The queue is bounded by the staging pool: a run holds one."""

    def __init__(self, transfer: OutboundTransfer, router: RouterRef) -> None:
        self.transfer = transfer
        self.router = router
        self.runs: asyncio.Queue[RunReady | None] = asyncio.Queue()

    def end(self, reason: Reason, why: str) -> None:
        """No run is coming any more, and what was shipped is void."""
        self.transfer.abort(reason, why)
        self.runs.put_nowait(None)
