"""The way into one receiver's memory, for whoever gathers pages: where the next run may be made, and under which key.

    the link opens --> LENDING --keys are made--> SEALING too --the link is dead--> CLOSED

    run of pages --a slot is free--> gathered where it is read --shipped--> copied by nobody
                 '--none, or another channel--> gathered into staging --shipped--> copied
    either way with its digests, once there are keys; else they are made in a pass of their own

So digests come with the offer, as ever: they are known when the gather is over, and the offer goes out behind it. What
waits for nobody is the gather: it asks here, on the thread that computes, and takes what it gets at once.
"""

import threading
from collections.abc import Callable

from common.core.errors import TransferFailed
from common.core.ids import WorkerId, WorkerRef
from common.kv.digest import DigestKey
from common.kv.span import DeviceSpan, Span
from common.transfer.device import Slot
from common.transfer.digester import Digester
from common.transfer.messages import Pair
from common.transfer.scope import TaskScope

Lend = Callable[[int], Slot | None]
"""A link's slot for a run of so many bytes; None now, or never. Any thread may call it."""


class Lanes:
    """Those of live links, by where they lead. Writer: the event loop; any thread may look."""

    def __init__(self, *, page_bytes: int, digester: Digester, scope: TaskScope) -> None:
        self.num_lent = 0
        """Slots in somebody's hands, over all lanes."""
        self._page_bytes = page_bytes
        self._digester = digester
        self._scope = scope
        self._lanes: dict[WorkerId, Lane] = {}
        self._lock = threading.Lock()

    def to(self, worker: WorkerRef) -> "Lane | None":
        """None where no link to this incarnation is open."""
        lane = self._lanes.get(worker.worker)
        return lane if lane is not None and lane.receiver.epoch == worker.epoch else None

    def open(self, pair: Pair, key: DigestKey, lend: Lend) -> "Lane":
        """Of the link between them, in place of an older one to the same worker."""
        lane = self._lanes[pair.receiver.worker] = Lane(pair.receiver, lend, lanes=self)
        self._scope.spawn(self._make_keys(lane, key), name=f"keys of {pair}")
        return lane

    def close(self, lane: "Lane") -> None:
        if self._lanes.get(lane.receiver.worker) is lane:
            del self._lanes[lane.receiver.worker]

    def lent(self) -> None:
        with self._lock:
            self.num_lent += 1

    def take_back(self, slot: Slot) -> None:
        """On the event loop. A gather that was only launched may be under way when its run is not wanted any more."""
        with self._lock:
            self.num_lent -= 1
        view = slot.view
        if not isinstance(view, DeviceSpan):
            slot.give_back()
        elif not self._scope.is_closed:  # else the process ends, and its memory with it
            self._scope.spawn(self._take_back_late(slot, view), name="give back a slot")

    async def _take_back_late(self, slot: Slot, view: DeviceSpan) -> None:
        try:
            await self._digester.finish_lift(view)
        finally:
            slot.give_back()

    async def _make_keys(self, lane: "Lane", key: DigestKey) -> None:
        """For whole pages: ms of a processor, which nobody who gathers has. Where a GPU has no memory for them, digests
        stay a pass of their own."""
        try:
            await self._digester.make_keys(self._page_bytes, key)
        except TransferFailed:
            return
        lane.key = key


class Lane:
    """Over one link, as long as that lives. Any thread may ask; what was lent goes back on the event loop."""

    def __init__(self, receiver: WorkerRef, lend: Lend, *, lanes: Lanes) -> None:
        self.receiver = receiver
        self.key: DigestKey | None = None
        """Of the pair, once whole pages can be gathered under it at no more than the gather's cost."""
        self._lend = lend
        self._lanes = lanes

    def lend(self, num_bytes: int) -> "LentSlot | None":
        """Room for one run at the receiver. None now, or never."""
        slot = self._lend(num_bytes)
        if slot is None:
            return None
        self._lanes.lent()
        return LentSlot(slot, self._lanes)

    def close(self) -> None:
        """The link is dead. Slots that are out stay where they are until they come back."""
        self._lanes.close(self)


class LentSlot:
    """Lent, as staging is: to be released once, on the event loop."""

    def __init__(self, slot: Slot, lanes: Lanes) -> None:
        self._slot: Slot | None = slot
        self._lanes = lanes

    @property
    def view(self) -> Span:
        assert self._slot is not None, "a slot is used after it was given back"
        return self._slot.view

    def release(self) -> None:
        assert self._slot is not None, "a slot was given back twice"
        slot, self._slot = self._slot, None
        self._lanes.take_back(slot)
