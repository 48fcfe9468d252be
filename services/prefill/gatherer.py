"""Copies finished pages into host staging, run by run, so that shipping never touches the worker's own pages."""

from collections.abc import Sequence

from common.core.ids import PageRef
from common.engine.telling import Teller
from common.kv.staging import Staging, StagingPool
from common.kv.storage import PageStorage
from common.transfer.messages import PageRun
from common.transfer.plan import max_run_pages, plan_runs
from services.prefill.messages import Exporting, RunReady
from services.prefill.prompt import PrefillCounters, Prompt


class Gatherer:
    """Plans and fills runs. Owner: the prefill core. Whoever ships a run gives its staging back."""

    def __init__(
        self, *, storage: PageStorage, staging: StagingPool, teller: Teller[Exporting], counters: PrefillCounters
    ) -> None:
        self._storage = storage
        self._layout = storage.layout
        self._staging = staging
        self._teller = teller
        self._counters = counters
        self._max_run_pages = max_run_pages(staging.num_bytes, storage.layout.page_bytes)

    @property
    def num_lent(self) -> int:
        """Buffers on their way to decode workers."""
        return self._staging.count - self._staging.num_free

    def plan(self, prompt: Prompt, *, computed: int) -> None:
        """Queue the runs that became whole since the last call; with the finale, everything that is left.

        A finale that comes after its last page was sent, or to a worker that holds every page, travels alone.
        """
        assert prompt.destination is not None, f"{prompt.sequence} has no destination"
        runs = plan_runs(
            held_pages=prompt.destination.held_pages,
            tokens_before=prompt.planned_tokens,
            tokens_after=computed,
            is_last=prompt.finale is not None,
            page_size=self._layout.page_size,
            max_run_pages=self._max_run_pages,
        )
        prompt.planned_tokens = computed
        prompt.ready.extend(runs)
        if prompt.is_drained:
            assert prompt.finale is not None
            nothing = PageRun(first_page=prompt.finale.total_pages, num_pages=0)
            self._teller.say(self._run_ready(prompt, nothing, None))

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
            num_bytes = run.num_pages * self._layout.page_bytes
            self._storage.gather([ref.page for ref in pages[run.first_page : run.end]], staging.view[:num_bytes])
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
            num_bytes=run.num_pages * self._layout.page_bytes,
            staging=staging,
            finale=prompt.finale if not prompt.ready else None,
        )
