"""What the router of a simulation sees: a view per machine, and hits from the holders. Made anew where it changed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from common.core.ids import WorkerId, WorkerRef
from common.core.worker import LoadReport, Role
from common.directory.owners import Slot
from services.router.recent import faded
from services.router.view import FleetView, WorkerView
from services.simulator.holders import Holders


class Seen(Protocol):
    """A machine as far as a router sees it: with steps or without."""

    @property
    def ref(self) -> WorkerRef: ...
    @property
    def role(self) -> Role: ...
    @property
    def slot(self) -> Slot: ...
    @property
    def version(self) -> int:
        """Grows whenever `report` would say something else."""
        ...

    def report(self) -> LoadReport: ...


@dataclass(eq=False, slots=True)
class _Standing:
    """What the router knows of one machine: its last report, and what it sent there itself."""

    machine: Seen
    is_dual: bool
    load: LoadReport
    version: int = -1
    in_flight: int = 0
    sent_tokens: int = 0
    sent_pages: int = 0
    sent_sequences: int = 0
    pending_tokens: int = 0
    pending_prompts: int = 0
    unheard_tokens: int = 0
    unheard_prompts: int = 0
    recent_tokens: float = 0.0
    recent_at: float = 0.0
    refused_at: float = float("-inf")
    view: WorkerView | None = None

    def note_recent(self, tokens: int, now: float) -> None:
        left = faded(self.recent_tokens, self.recent_at, now)
        self.recent_tokens, self.recent_at = max(0.0, left + tokens), now


REFUSAL_S = 0.05


class SeenFleet:
    """Writer: the event loop. Counts what was sent on top of the reports, as `services/router/standing.py` does."""

    def __init__(
        self,
        machines: Sequence[Seen],
        holders: Holders,
        *,
        duals: Collection[WorkerId],
        page_bytes: int,
        can_fetch: bool = False,
    ) -> None:
        self._standings = {
            machine.ref.worker: _Standing(machine, machine.ref.worker in duals, machine.report())
            for machine in sorted(machines, key=lambda machine: machine.ref.worker)
        }
        self._page_bytes = page_bytes
        self._can_fetch = can_fetch
        self._ids: dict[Slot, WorkerId] = {machine.slot: machine.ref.worker for machine in machines}
        self._holders = holders

    def hits(self, pages: Sequence[int], page_size: int) -> Mapping[WorkerId, int]:
        """Leading tokens that each machine holds, by the hints."""
        return {self._ids[slot]: run * page_size for slot, run in self._holders.runs(pages).items()}

    def awaited(self, pages: Sequence[int]) -> frozenset[WorkerId]:
        """Machines thought to hold more than they told: a prompt of this beginning was just sent there."""
        thought, told = self._holders.runs(pages), self._holders.runs(pages, is_told=True)
        return frozenset(self._ids[slot] for slot, run in thought.items() if run > told.get(slot, 0))

    def max_pages(self) -> int:
        """Pages of the largest machine that writes, as `services/router/fleet.py` has it."""
        writers = (each for each in self._standings.values() if each.machine.role is Role.DECODE)
        return max((each.load.pages.total for each in writers), default=0)

    def view(self, now: float) -> FleetView:
        workers = tuple(self._view(standing, now) for standing in self._standings.values())
        return FleetView(workers=workers, now=now, page_bytes=self._page_bytes, can_fetch=self._can_fetch)

    def assign(self, worker: WorkerRef, *, tokens: int, pages: int, now: float) -> None:
        """Work was placed."""
        standing = self._standings[worker.worker]
        standing.in_flight += 1
        standing.sent_tokens += tokens
        standing.sent_pages += pages
        standing.sent_sequences += 1
        standing.note_recent(tokens, now)
        standing.pending_tokens += tokens
        standing.pending_prompts += tokens > 0
        standing.unheard_tokens += tokens
        standing.unheard_prompts += tokens > 0
        standing.view = None

    def land(self, worker: WorkerRef, tokens: int) -> None:
        """The machine took the prompt behind these tokens: from now on its reports hold it."""
        standing = self._standings[worker.worker]
        standing.unheard_tokens -= tokens
        standing.unheard_prompts -= tokens > 0
        standing.view = None

    def note_read(self, worker: WorkerRef, tokens: int) -> None:
        """The prompt behind these tokens is read."""
        standing = self._standings[worker.worker]
        standing.pending_tokens -= tokens
        standing.pending_prompts -= tokens > 0
        standing.view = None

    def release(self, worker: WorkerRef) -> None:
        """Placed work is over."""
        standing = self._standings[worker.worker]
        standing.in_flight -= 1
        standing.view = None

    def take_back(self, worker: WorkerRef, tokens: int, now: float) -> None:
        """Work was placed, and never taken: nobody reads these tokens there."""
        self._standings[worker.worker].note_recent(-tokens, now)
        self.land(worker, tokens)
        self.note_read(worker, tokens)
        self.release(worker)

    def note_refusal(self, worker: WorkerRef, now: float) -> None:
        """It had no room."""
        self._standings[worker.worker].refused_at = now

    def _view(self, standing: _Standing, now: float) -> WorkerView:
        machine = standing.machine
        if machine.version != standing.version:
            standing.version, standing.load = machine.version, machine.report()
            standing.sent_tokens = standing.sent_pages = standing.sent_sequences = 0
            standing.view = None
        has_room = now - standing.refused_at >= REFUSAL_S
        if standing.view is None or standing.view.has_room is not has_room:
            standing.view = WorkerView(
                worker=machine.ref,
                role=machine.role,
                is_eligible=True,
                has_room=has_room,
                load=standing.load,
                age_s=3600.0,
                in_flight=standing.in_flight,
                sent_tokens=standing.sent_tokens,
                sent_pages=standing.sent_pages,
                sent_sequences=standing.sent_sequences,
                pending_tokens=standing.pending_tokens,
                pending_prompts=standing.pending_prompts,
                unheard_tokens=standing.unheard_tokens,
                unheard_prompts=standing.unheard_prompts,
                recent_tokens=standing.recent_tokens,
                recent_at=standing.recent_at,
                is_dual=standing.is_dual,
            )
        return standing.view
