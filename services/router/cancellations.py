"""Cancels on their way to workers. Handing one over never waits, so it cannot be lost to a second cancellation.

A worker that does not answer keeps its cancels waiting here: they go out when it is heard again, on a stream that broke
or on one that outlived the trouble. One that stays away ends the work by itself, when its lease on our stream is over.
"""

import asyncio
from collections import OrderedDict, defaultdict

from common.core.errors import BatonError
from common.core.ids import WorkerRef
from common.core.waiting import wait_set
from common.observe.logging import get_log
from services.router.workers import Cancel, Workers

MAX_PENDING = 8192
"""Chosen, per worker: every stream of a large router. Beyond it the lease on the worker's side ends the work."""

MAX_ITEMS = 2048
"""Cancels in one message. Chosen: half of what a worker takes; one message is one command of its step loop."""

MAX_SILENT = 256
"""Chosen: workers that are away at the same time. A worker of before has ended our work by its lease."""

_LOG = get_log("router")


class Cancellations:
    """One message at a time per worker, with all that gathered meanwhile. `run` lives in the app's TaskGroup."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._pending: defaultdict[WorkerRef, list[Cancel]] = defaultdict(list)
        self._undelivered: OrderedDict[WorkerRef, list[Cancel]] = OrderedDict()
        self._sending: set[WorkerRef] = set()
        self._has_pending = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def submit(self, worker: WorkerRef, cancel: Cancel) -> None:
        """To be sent at once."""
        self._put(worker, [cancel])

    def send_again(self, worker: WorkerRef) -> None:
        """The worker was heard: what it missed, if anything, is sent now."""
        if missed := self._undelivered.pop(worker, None):
            self._put(worker, missed)

    def forget(self, worker: WorkerRef) -> None:
        """The incarnation was replaced, and its work is over with it. One that merely vanished may be back."""
        self._undelivered.pop(worker, None)

    async def run(self) -> None:
        """Sends until cancelled. Each worker has its own sender: one that does not answer delays nobody else."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._has_pending.wait()  # bounded: ends with the app's TaskGroup
                self._has_pending.clear()
                for worker in [worker for worker in self._pending if worker not in self._sending]:
                    self._sending.add(worker)
                    group.create_task(self._send(worker, self._pending.pop(worker)))

    async def wait_idle(self, timeout_s: float) -> None:
        """At shutdown: returns when everything was sent, or time is up."""
        if not await wait_set(self._is_idle, timeout_s):
            _LOG.warning("cancels_unsent", workers=len(self._pending) + len(self._sending))

    def _put(self, worker: WorkerRef, cancels: list[Cancel]) -> None:
        pending = self._pending[worker]
        pending += cancels[: MAX_PENDING - len(pending)]
        self._is_idle.clear()
        self._has_pending.set()

    def _keep(self, worker: WorkerRef, cancels: list[Cancel]) -> None:
        """Until the worker answers again. Those of the worker that has been away longest give way."""
        missed = self._undelivered.setdefault(worker, [])
        missed += cancels[: MAX_PENDING - len(missed)]
        while len(self._undelivered) > MAX_SILENT:
            self._undelivered.popitem(last=False)

    async def _send(self, worker: WorkerRef, cancels: list[Cancel]) -> None:
        unsent = cancels
        try:
            while unsent:
                await self._workers.cancel(worker, unsent[:MAX_ITEMS])
                unsent = unsent[MAX_ITEMS:]
        except BatonError as error:
            self._keep(worker, unsent)
            _LOG.debug("cancel_undelivered", worker=worker.worker, works=len(unsent), reason=error.reason.value)
        finally:
            self._sending.remove(worker)
            if worker in self._pending:
                self._has_pending.set()
            elif not self._pending and not self._sending:
                self._is_idle.set()
