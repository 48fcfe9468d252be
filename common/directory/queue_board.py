"""Queue depth per role and class: each router writes its own, autoscaling and `baton top` read all."""

from common.core.clock import Clock
from common.core.ids import RouterId, RouterRef
from common.core.queue import QueueReport
from common.directory.codec import QueueView, decode_queue
from common.directory.guard import Guard
from common.directory.keys import Keys
from common.directory.neighbour import Neighbour
from common.directory.roll import Roll
from common.directory.settings import DirectorySettings
from common.directory.store import Join, Leave, Memory, Put, Remove, Store
from common.rpc.convert.directory import queue_to_wire

MAX_ROUTERS = 256


class QueueBoard:
    """One router's place on the board, and a view of all places. Writer of its own key, and of the set of names."""

    def __init__(self, guard: Guard, settings: DirectorySettings, *, clock: Clock, router: RouterRef) -> None:
        self._guard = guard
        self._settings = settings
        self._router = router
        self._keys = Keys(settings.cluster)
        self._roll = Roll(MAX_ROUTERS)
        self._neighbour = Neighbour(
            guard,
            settings,
            clock=clock,
            me=router.router,
            names=self._keys.routers,
            record_of=lambda name: self._keys.queue(RouterId(name)),
        )
        self._known: tuple[RouterId, ...] = ()
        """Who was on the board when it was last read."""

    async def publish(self, report: QueueReport) -> bool:
        """Once per heartbeat; the record is a lease. False when Redis did not take it."""
        record = queue_to_wire(self._router, report).SerializeToString()
        key = self._keys.queue(self._router.router)
        commands = (
            Put(key=key, value=record, ttl_s=self._settings.lease_s),
            Join(key=self._keys.routers, member=self._router.router, ttl_s=self._settings.keep_s),
        )
        is_written = await self._guard.run(lambda store: store.write(commands)) is not None
        if is_written:
            await self._neighbour.tidy()
        return is_written

    async def read(self) -> tuple[QueueView, ...] | None:
        """The queues of all live routers; None when Redis does not answer, and until every name on the board was looked
        up once: stale is not the same as empty."""
        views = await self._guard.run(self._see)
        if views is None:
            return None
        self._known = tuple(view.router.router for view in views)
        return views if self._roll.is_whole else None

    async def memory(self) -> Memory | None:
        """What Redis holds; None when it does not answer, or not to us."""
        return await self._guard.run(lambda store: store.memory())

    async def leave(self) -> None:
        """Take the own record away."""
        key = self._keys.queue(self._router.router)
        commands = (Remove(key=key), Leave(key=self._keys.routers, members=(self._router.router,)))
        await self._guard.run(lambda store: store.write(commands))

    async def _see(self, store: Store) -> tuple[QueueView, ...]:
        names = await store.members(self._keys.routers)
        routers = [RouterId(router) for router in self._roll.call(names, known=self._known)]
        values = await store.read([self._keys.queue(router) for router in routers])
        self._roll.was_answered()
        views = [
            decode_queue(value, router) for router, value in zip(routers, values, strict=True) if value is not None
        ]
        return tuple(view for view in views if view is not None)
