"""Who this worker is and whether it takes work, as the directory, the servicer and the readiness check see it.

STARTING -> READY -> DRAINING; a worker that fails its self-test drains without having been ready. No way back: what
was drained is restarted as another incarnation.
"""

from collections.abc import Callable

from common.core.errors import Reason, Unavailable
from common.core.ids import WorkerRef
from common.core.worker import LoadReport, Member, Role, WorkerState
from common.kv.layout import PageLayout


class Presence:
    """One incarnation. Writer: the composition root, on the event loop; everybody may read."""

    def __init__(
        self,
        worker: WorkerRef,
        *,
        role: Role,
        layout: PageLayout,
        load: Callable[[], LoadReport],
        pool: str = "",
    ) -> None:
        self.worker = worker
        self.role = role
        self.layout = layout
        self.load = load
        self.metrics_address = ""
        """Empty until its listener is there, and for ever where it has none."""
        self.pool = pool
        self._state = WorkerState.STARTING

    @property
    def state(self) -> WorkerState:
        return self._state

    @property
    def is_ready(self) -> bool:
        return self._state is WorkerState.READY

    def become_ready(self) -> None:
        """A real token was generated: take work. A worker told to drain meanwhile stays draining."""
        if self._state is WorkerState.STARTING:
            self._state = WorkerState.READY

    def begin_drain(self) -> None:
        """Take no more work. Idempotent."""
        self._state = WorkerState.DRAINING

    def require_ready(self) -> None:
        """For servicers, before they accept work. Raises Unavailable (DRAINING, or NO_WORKERS while starting)."""
        if self._state is WorkerState.READY:
            return
        reason = Reason.DRAINING if self._state is WorkerState.DRAINING else Reason.NO_WORKERS
        raise Unavailable(message=f"worker {self.worker.worker} is {self._state.value}", reason=reason)

    def describe(self) -> Member:
        """What the directory is told with every heartbeat."""
        return Member(
            worker=self.worker,
            role=self.role,
            state=self._state,
            load=self.load(),
            layout_fingerprint=self.layout.fingerprint(),
            metrics_address=self.metrics_address,
            pool=self.pool,
            page_bytes=self.layout.page_bytes,
            model_digest=self.layout.model_digest,
        )
