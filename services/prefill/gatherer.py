"""Copies finished pages out, run by run, so that shipping never touches the worker's own pages: straight into a slot of
their receiver where it has one free, else into staging here, and with their digests in the same pass.
"""

from collections.abc import Sequence
from contextlib import suppress

from common.core.errors import TransferFailed
from common.core.ids import PageId, PageRef
from common.engine.telling import Teller
from common.kv.seal import Sealing
from common.kv.span import Span
from common.kv.staging import StagingPool
from common.kv.storage import PageStorage
from common.transfer.channel import Lent
from common.transfer.lane import Lane, Lanes
from common.transfer.messages import PageRun
from common.transfer.plan import digest_index, join, max_run_pages, plan_runs, split_layers
from services.prefill.messages import Destination, Exporting, RunReady
from services.prefill.prompt import PrefillCounters, Prompt


class Gatherer:
    """Plans and fills runs. Owner: the prefill core. Whoever ships a run gives its staging back."""

    def __init__(
        self,
        *,
        storage: PageStorage,
        staging: StagingPool,
        teller: Teller[Exporting],
        counters: PrefillCounters,
        num_groups: int = 1,
    ) -> None:
        """`num_groups` of layers are what a page is cut into, where its layers leave as they are done."""
        self._storage = storage
        self._layout = storage.layout
        self._staging = staging
        self._teller = teller
        self._counters = counters
        self._max_run_pages = max_run_pages(staging.num_bytes, storage.layout.page_bytes)
        self._num_groups = num_groups
        self.lanes: Lanes | None = None
        """To the receivers: set by whoever made the endpoint."""

    @property
    def num_lent(self) -> int:
        """Buffers on their way to decode workers, here and there."""
        num_slots = 0 if self.lanes is None else self.lanes.num_lent
        return self._staging.count - self._staging.num_free + num_slots

    def plan(self, prompt: Prompt, *, computed: int) -> None:
        """Queue the runs that became whole since the last call; with the finale, everything that is left.

        Called when a step is over: every layer that was still to come is there. Of a step that was launched ahead
        more may be planned already.
        A finale that comes after its last page was sent, or to a worker that holds every page, travels alone.
        """
        assert prompt.destination is not None, f"{prompt.sequence} has no destination"
        prompt.ready.extend(prompt.coming)
        prompt.coming.clear()
        prompt.ready.extend(self._runs(prompt, max(computed, prompt.planned_tokens), self._max_run_pages))
        if prompt.is_drained:
            assert prompt.finale is not None
            nothing = PageRun(first_page=prompt.finale.total_pages, num_pages=0)
            self._teller.say(self._run_ready(prompt, nothing, None))

    def plan_layers(self, prompt: Prompt, *, computed: int, num_layers: int) -> None:
        """Amid the step that computes up to `computed`: queue what its first `num_layers` layers add.

        All pages' first group comes before any page's second. The page at the end that is not full goes whole, with
        the finale. A buffer holds as many bytes of some layers as of whole pages.
        """
        if prompt.planned_tokens < computed:
            runs = self._runs(prompt, computed, self._max_run_pages * self._num_groups)
            cut = [split_layers(run, num_layers=self._layout.num_layers, num_groups=self._num_groups) for run in runs]
            prompt.coming.extend(part for group in zip(*cut, strict=True) for part in group)
        while prompt.coming and _last_layer(prompt.coming[0]) <= num_layers:
            prompt.ready.append(prompt.coming.popleft())

    def _runs(self, prompt: Prompt, computed: int, most_pages: int) -> tuple[PageRun, ...]:
        """The full pages between what was planned and `computed`, which is planned now."""
        assert prompt.destination is not None, f"{prompt.sequence} has no destination"
        runs = plan_runs(
            held_pages=prompt.destination.held_pages,
            tokens_before=prompt.planned_tokens,
            tokens_after=computed,
            is_last=prompt.finale is not None,
            page_size=self._layout.page_size,
            max_run_pages=most_pages,
        )
        prompt.planned_tokens = computed
        return runs

    def gather(self, prompt: Prompt, pages: Sequence[PageRef]) -> bool:
        """Fill slots of the receiver, or staging, with ready runs while there is some. Never waits: what finds none
        stays queued, and leaves with what became ready behind it, as much as a buffer holds.

        A decode worker that is slow to take its pages holds its share of the staging, not all of it.
        """
        if not prompt.ready:  # as always where pages are kept here
            return False
        assert prompt.destination is not None, f"{prompt.sequence} has no destination"
        lane = None if self.lanes is None else self.lanes.to(prompt.destination.worker)
        gathered = False
        while prompt.ready:
            run = join(prompt.ready, self._max_run_pages)
            num_bytes = self._bytes_of(run)
            room = self._room(prompt.destination, lane, num_bytes)
            if room is None:
                self._counters.staging_waits += 1
                prompt.ready.appendleft(run)
                return gathered
            own = [ref.page for ref in pages[run.first_page : run.end]]
            sealing = self._copy(own, run, room.view[:num_bytes], lane)
            self._counters.gathered_bytes += num_bytes
            self._teller.say(self._run_ready(prompt, run, room, sealing))
            gathered = True
        return gathered

    def _room(self, destination: Destination, lane: Lane | None, num_bytes: int) -> Lent | None:
        slot = None if lane is None else lane.lend(num_bytes)
        if slot is None:
            return self._staging.acquire_nowait(str(destination.worker.worker))
        self._counters.slot_runs += 1
        return slot

    def _copy(self, own: Sequence[PageId], run: PageRun, out: Span, lane: Lane | None) -> Sealing | None:
        """Digests of whole pages come with the copy; those of some layers have keys of their own, which are made where
        there is time for it, as are all where a GPU has no memory for them now."""
        if lane is not None and lane.key is not None and run.layers is None:
            with suppress(TransferFailed):
                return self._storage.gather_sealed(own, out, lane.key, first_index=digest_index(run))
        self._storage.gather(own, out, run.layers)
        return None

    def _bytes_of(self, run: PageRun) -> int:
        return run.num_pages * self._layout.part_bytes(run.layers)

    def _run_ready(
        self, prompt: Prompt, run: PageRun, staging: Lent | None, sealing: Sealing | None = None
    ) -> RunReady:
        assert prompt.destination is not None, f"{prompt.sequence} has no destination"
        return RunReady(
            router=prompt.work.router,
            request=prompt.work.request,
            attempt=prompt.work.attempt,
            destination=prompt.destination,
            run=run,
            num_bytes=self._bytes_of(run),
            staging=staging,
            sealing=sealing,
            finale=prompt.finale if prompt.is_drained else None,
        )


def _last_layer(run: PageRun) -> int:
    """Behind the highest layer of a run of some."""
    assert run.layers is not None, f"{run} is of whole pages"
    return run.layers.end
