"""Cancels on their way: however many have gathered, each arrives."""

import asyncio
from collections.abc import Sequence

from common.core.errors import InvalidRequest, Reason
from common.core.ids import RequestId, WorkerRef
from common.worker.servicer import MAX_CANCEL_ITEMS
from services.router.cancellations import Cancellations
from services.router.workers import Cancel
from tests.router.build import worker_ref


class PickyWorkers:
    """A worker that refuses a longer list than workers take."""

    def __init__(self) -> None:
        self.cancelled: list[RequestId] = []

    async def cancel(self, worker: WorkerRef, cancels: Sequence[Cancel]) -> None:
        if len(cancels) > MAX_CANCEL_ITEMS:
            raise InvalidRequest(message=f"{len(cancels)} items")
        self.cancelled += [cancel.work for cancel in cancels]


async def test_more_cancels_than_one_message_may_hold_arrive_in_several() -> None:
    workers = PickyWorkers()
    cancellations = Cancellations(workers)  # type: ignore[arg-type]
    running = asyncio.create_task(cancellations.run())
    names = [RequestId(f"r{index}") for index in range(MAX_CANCEL_ITEMS + 1)]
    for name in names:
        cancellations.submit(worker_ref("d0"), Cancel(work=name, attempt=1, reason=Reason.CANCELLED))
    await cancellations.wait_idle(5.0)
    running.cancel()
    assert workers.cancelled == names
