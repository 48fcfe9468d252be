"""One look at the directory, for who only watches: members and queues, nothing of ownership, nothing written."""

from dataclasses import dataclass

from common.core.ids import RouterId, WorkerId
from common.core.worker import Member
from common.directory.codec import QueueView, decode_member, decode_queue
from common.directory.guard import Guard
from common.directory.keys import Keys
from common.directory.mirror import MAX_MEMBERS
from common.directory.queue_board import MAX_ROUTERS
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

    async def look(self) -> Sighting | None:
        """None when Redis does not answer in time: unknown is not empty."""
        return await self._guard.run(self._see)

    async def _see(self, store: Store) -> Sighting:
        workers = [WorkerId(name) for name in sorted(await store.members(self._keys.workers))[:MAX_MEMBERS]]
        routers = [RouterId(name) for name in sorted(await store.members(self._keys.routers))[:MAX_ROUTERS]]
        keys = [*map(self._keys.worker, workers), *map(self._keys.queue, routers)]
        values = await store.read(keys) if keys else ()
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
