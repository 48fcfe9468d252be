"""Copies finished pages into staging, run by run, so that shipping never touches the worker's own pages."""

from collections.abc import Sequence

from common.core.ids import PageRef
from common.engine.telling import Teller
from common.kv.staging import Staging, StagingPool
from common.kv.storage import PageStorage
from common.transfer.messages import PageRun
from common.transfer.plan import max_run_pages, plan_runs, split_layers
from services.prefill.messages import Exporting, RunReady
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

    @property
    def num_lent(self) -> int:
        """Buffers on their way to decode workers."""
        return self._staging.count - self._staging.num_free

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
        """Fill staging with ready runs while there is some. Never waits: what finds none stays queued.

        A decode worker that is slow to take its pages holds its share of the staging, not all of it.
        """
        if not prompt.ready:  # as always where pages are kept here
            return False
        assert prompt.destination is not None, f"{prompt.sequence} has no destination"
        holder = str(prompt.destination.worker.worker)
        gathered = False
        while prompt.ready:
            staging = self._staging.acquire_nowait(holder)
            if staging is None:
                self._counters.staging_waits += 1
                return gathered
            run = prompt.ready.popleft()
            num_bytes = run.num_pages * self._layout.part_bytes(run.layers)
            own = [ref.page for ref in pages[run.first_page : run.end]]
            self._storage.gather(own, staging.view[:num_bytes], run.layers)
            self._counters.gathered_bytes += num_bytes
            self._teller.say(self._run_ready(prompt, run, staging))
            gathered = True
        return gathered

    def _run_ready(self, prompt: Prompt, run: PageRun, staging: Staging | None) -> RunReady:
        assert prompt.destination is not None, f"{prompt.sequence} has no destination"
        return RunReady(
            router=prompt.work.router,
            request=prompt.work.request,
            attempt=prompt.work.attempt,
            destination=prompt.destination,
            run=run,
            num_bytes=run.num_pages * self._layout.part_bytes(run.layers),
            staging=staging,
            finale=prompt.finale if prompt.is_drained else None,
        )


def _last_layer(run: PageRun) -> int:
    """Behind the highest layer of a run of some."""
    assert run.layers is not None, f"{run} is of whole pages"
    return run.layers.end
