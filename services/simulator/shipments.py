"""Pages on their way from who read them to who writes: one after the other over the reader's link."""

from collections.abc import Callable, MutableMapping

from common.core.ids import WorkerId
from services.simulator.cluster import ClusterShape
from services.simulator.job import Job
from services.simulator.timeline import Timeline


class Shipments:
    """Writer: the replay. `links`: until when each machine's link is busy."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        links: MutableMapping[WorkerId, float],
        page_size: int,
        page_bytes: int,
        shape: ClusterShape,
    ) -> None:
        self._timeline = timeline
        self._links = links
        self._page_size = page_size
        self._page_bytes = page_bytes
        self._cost = shape.reading_cost if shape.prefill else shape.cost
        self._land_s = shape.land_s

    def ship(self, job: Job, num_pages: int, *, is_last: bool, land: Callable[[], None]) -> None:
        """So many pages are ready, all of them with the last: they travel while later chunks are read. `land` is called
        when the writer may adopt them."""
        assert job.route is not None
        now, source = self._timeline.now, job.route.reader.worker
        end = -(-job.request.prompt_tokens // self._page_size) if is_last else num_pages
        first = max(job.shipped_pages, job.held_pages)
        job.shipped_pages = max(job.shipped_pages, end)
        if end > first:
            seconds = (end - first) * self._page_bytes * self._cost.transfer_byte_s
            job.shipped_at = self._links[source] = max(self._links[source], now) + seconds
        if is_last:
            self._timeline.at(max(job.shipped_at, now) + self._cost.transfer_s + self._land_s, land)
