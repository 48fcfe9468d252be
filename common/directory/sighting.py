"""One look at the directory, for who only watches: members and queues, nothing of ownership, nothing written."""

from dataclasses import dataclass

from common.core.ids import RouterId, WorkerId
from common.core.worker import Member
from common.directory.codec import QueueView, decode_member, decode_queue
from common.directory.guard import Guard
from common.directory.keys import Keys
from common.directory.mirror import MAX_MEMBERS
from common.directory.queue_board import MAX_ROUTERS
from common.directory.roll import Roll
from common.directory.settings import DirectorySettings
from common.directory.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Live members and the queues of live routers at one moment."""

    members: tuple[Member, ...]
    queues: tuple[QueueView, ...]


class Lookout:
    """Reads the directory when asked. Writer of nothing."""

    def __init__(self, guard: Guard, settings: DirectorySettings) -> None:
        self._guard = guard
        self._keys = Keys(settings.cluster)
        self._workers = Roll(MAX_MEMBERS)
        self._routers = Roll(MAX_ROUTERS)
        self._last = Sighting(members=(), queues=())

    async def look(self) -> Sighting | None:
        """None when Redis does not answer in time, and until every name that is announced there was looked up once:
        unknown is not empty."""
        sighting = await self._guard.run(self._see)
        if sighting is None:
            return None
        self._last = sighting
        return sighting if self._workers.is_whole and self._routers.is_whole else None

    async def _see(self, store: Store) -> Sighting:
        names = await store.members(self._keys.workers)
        called = self._workers.call(names, known=[member.worker.worker for member in self._last.members])
        workers = [WorkerId(name) for name in called]
        names = await store.members(self._keys.routers)
        called = self._routers.call(names, known=[queue.router.router for queue in self._last.queues])
        routers = [RouterId(name) for name in called]
        keys = [*map(self._keys.worker, workers), *map(self._keys.queue, routers)]
        values = await store.read(keys) if keys else ()
        self._workers.was_answered()
        self._routers.was_answered()
        records = [
            decode_member(value, worker) for worker, value in zip(workers, values, strict=False) if value is not None
        ]
        queues = [
            decode_queue(value, router)
            for router, value in zip(routers, values[len(workers) :], strict=True)
            if value is not None
        ]
        return Sighting(
            members=tuple(record.member for record in records if record is not None),
            queues=tuple(queue for queue in queues if queue is not None),
        )
