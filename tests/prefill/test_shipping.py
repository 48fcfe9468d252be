"""Shipping between the core and the transfer room: every way out ends, and gives the staging back."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

from common.core.clock import SystemClock
from common.core.errors import Reason, TransferFailed
from common.core.events import WorkFailed
from common.core.ids import Epoch, RequestId, ReservationId, RouterId, RouterRef, TransferId, WorkerId, WorkerRef
from common.kv.staging import StagingPool
from common.transfer.messages import Finale, Outcome, OutcomeState, PageRun
from services.prefill.messages import Destination, RunReady
from services.prefill.shipping import Shipping

if TYPE_CHECKING:
    from common.core.events import WorkEvent

ROUTER = RouterRef(RouterId("router-0"), Epoch(1))
DECODE = WorkerRef(WorkerId("decode-0"), Epoch(2), "127.0.0.1:2")


class Transfer:
    """An outbound transfer whose receiver takes every run."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.outcome = Outcome(state=OutcomeState.PENDING)
        self.shipped = asyncio.Event()
        self.begun: list[PageRun] = []
        self.may_leave = asyncio.Event()
        self.may_leave.set()

    async def ship(self, run: PageRun, data: memoryview, sealing: object) -> None:
        self._check()
        self.begun.append(run)
        await self.may_leave.wait()
        self._check()
        self.shipped.set()

    async def finish(self, finale: Finale, run: PageRun, data: memoryview, sealing: object) -> None:
        self._check()

    async def wait_outcome(self, timeout_s: float) -> Outcome:
        self.outcome = Outcome(state=OutcomeState.DONE)
        return self.outcome

    def abort(self, reason: Reason, message: str = "") -> None:
        if not self.outcome.is_terminal:
            self.outcome = Outcome(state=OutcomeState.FAILED, reason=reason, message=message)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self.outcome.is_terminal:
            raise TransferFailed(message=self.outcome.message)


class Scene:
    """Shipping with an endpoint that starts played transfers."""

    def __init__(self) -> None:
        self.staging = StagingPool(2, 64)
        self.transfers: list[Transfer] = []
        self.told: list[WorkEvent] = []
        self.given_up: list[tuple[RequestId, int]] = []
        self.bugs: list[Exception] = []
        self.failure: Exception | None = None
        """Of what the next transfer does."""
        self.shipping = Shipping(
            self,  # type: ignore[arg-type]
            tell=lambda _, event: self.told.append(event),
            wake=lambda: None,
            give_up=lambda request, attempt: self.given_up.append((request, attempt)),
            guard=self._guarded,
            outcome_s=1.0,
            clock=SystemClock(),
        )

    async def _guarded(self, export: Awaitable[None]) -> None:
        try:
            await export
        except ExceptionGroup as error:
            self.bugs.extend(error.exceptions)

    def start(self, transfer: TransferId, request: RequestId, destination: WorkerRef) -> Transfer:
        self.transfers.append(Transfer(self.failure))
        return self.transfers[-1]

    def run_ready(self, first_page: int, finale: Finale | None = None) -> RunReady:
        return RunReady(
            router=ROUTER,
            request=RequestId("r"),
            attempt=1,
            destination=Destination(worker=DECODE, reservation=ReservationId("res"), held_pages=0),
            run=PageRun(first_page=first_page, num_pages=1),
            num_bytes=64,
            staging=self.staging.acquire_nowait(),
            finale=finale,
        )


async def two_under_way(scene: Scene) -> Transfer:
    """The first two runs of a transfer, neither of them over before it `may_leave`."""
    for page in range(2):
        scene.shipping.ready(scene.run_ready(page))
        scene.transfers[0].may_leave.clear()
    (transfer,) = scene.transfers
    async with asyncio.timeout(1.0):
        while len(transfer.begun) < 2:  # turns of the loop
            await asyncio.sleep(0)
    return transfer


async def test_a_stop_ends_an_export_that_waits_for_a_run_which_never_comes() -> None:
    scene, stop = Scene(), asyncio.Event()
    running = asyncio.create_task(scene.shipping.run(stop))
    await asyncio.sleep(0)
    scene.shipping.ready(scene.run_ready(0))
    (transfer,) = scene.transfers
    await transfer.shipped.wait()
    stop.set()
    async with asyncio.timeout(1.0):
        await running
    assert transfer.outcome.reason is Reason.DRAINING
    assert scene.shipping.num_exports == 0
    assert scene.staging.num_free == scene.staging.count


async def test_a_run_is_handed_over_while_the_one_before_it_travels_and_each_gives_its_own_staging_back() -> None:
    scene, stop = Scene(), asyncio.Event()
    running = asyncio.create_task(scene.shipping.run(stop))
    await asyncio.sleep(0)
    transfer = await two_under_way(scene)
    assert [run.first_page for run in transfer.begun] == [0, 1]
    assert scene.staging.num_free == 0
    transfer.may_leave.set()
    scene.shipping.ready(replace(scene.run_ready(2), staging=None, finale=Finale(first_tokens=(), total_pages=3)))
    async with asyncio.timeout(1.0):
        await scene.shipping.wait_idle()
    assert transfer.outcome.state is OutcomeState.DONE
    assert scene.staging.num_free == scene.staging.count
    assert scene.given_up == []
    stop.set()
    await running


async def test_a_run_that_fails_ends_those_beside_it_and_is_reported_once() -> None:
    scene, stop = Scene(), asyncio.Event()
    running = asyncio.create_task(scene.shipping.run(stop))
    await asyncio.sleep(0)
    transfer = await two_under_way(scene)
    async with asyncio.timeout(1.0):
        transfer.abort(Reason.CHANNEL_BROKEN, "the pair broke")
        transfer.may_leave.set()
        await scene.shipping.wait_idle()
    assert scene.given_up == [(RequestId("r"), 1)]
    assert [type(event).__name__ for event in scene.told] == ["WorkFailed"]
    assert scene.staging.num_free == scene.staging.count
    stop.set()
    await running


async def test_an_offer_that_the_receiver_calls_wrong_is_a_failed_transfer_and_no_mistake_of_the_client() -> None:
    scene, stop = Scene(), asyncio.Event()
    running = asyncio.create_task(scene.shipping.run(stop))
    await asyncio.sleep(0)
    scene.shipping.ready(scene.run_ready(0))
    (transfer,) = scene.transfers
    async with asyncio.timeout(1.0):
        await transfer.shipped.wait()
        transfer.abort(Reason.INVALID_REQUEST, "finale while 2 of 4 pages are missing")
        scene.shipping.ready(scene.run_ready(1))
        await scene.shipping.wait_idle()
    (failed,) = (event for event in scene.told if isinstance(event, WorkFailed))
    assert (failed.reason, failed.reservation_stands) == (Reason.TRANSFER_FAILED, True)
    stop.set()
    await running


async def test_a_bug_in_one_export_is_told_at_once_and_late_runs_of_others_are_no_second_one() -> None:
    """The cause is told while the export beside it is still on its way."""
    scene, stop = Scene(), asyncio.Event()
    running = asyncio.create_task(scene.shipping.run(stop))
    await asyncio.sleep(0)
    healthy = await two_under_way(scene)
    scene.failure = ZeroDivisionError("a bug")
    scene.shipping.ready(replace(scene.run_ready(0), request=RequestId("other"), staging=None))
    scene.failure = None
    await asyncio.sleep(0.01)
    scene.shipping.ready(replace(scene.run_ready(0), request=RequestId("late"), staging=None))
    assert [str(error) for error in scene.bugs] == ["a bug"]
    assert not running.done()
    assert not healthy.outcome.is_terminal
    stop.set()
    healthy.may_leave.set()
    async with asyncio.timeout(1.0):
        await running
    assert scene.staging.num_free == scene.staging.count
