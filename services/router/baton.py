"""A choice on its way from a worker that drains to another one: what the leg behind it hands to the leg before it.

    the worker says how long it drains -> worth a move, and a place elsewhere -> HandOver -> HandedOver with tickets
        -> each choice: a leg of its own with a baton -> Reserve with the ticket -> the pages are fetched -> next index

The work that continues has all tokens but the last emitted one as its context: whose pages are kept is what was
computed. The new worker begins by repeating that last token, as decode repeats what prefill drew.
"""

from dataclasses import dataclass

from common.core.ids import WorkerRef
from common.core.request import Work
from common.core.ticket import Ticket
from services.router.inbox import Draining
from services.router.moves import Slot

STAY_SHARE = 0.25
"""Chosen: an answer that is over within a quarter of the time that is left may end where it is. The estimate may be
wrong by a factor, and moves that were put off need time too."""


@dataclass(eq=False, slots=True, kw_only=True)
class Baton:
    """One choice of `work`, kept at `source`. Writer: the journey, then the leg that carries it."""

    source: WorkerRef
    work: Work
    choice: int
    ticket: Ticket
    destination: WorkerRef
    """Where room was found for it."""
    slot: Slot | None = None
    is_settled: bool = False
    """It was adopted elsewhere, or let go: nothing is kept for it at the source any more."""

    def arrive(self) -> None:
        """It is written elsewhere."""
        self.is_settled = True
        if self.slot is not None:
            self.slot.arrived()

    def lay_down(self) -> None:
        """It is let go."""
        self.is_settled = True
        if self.slot is not None:
            self.slot.abandoned()


@dataclass(kw_only=True)
class LegHandedOver(Exception):
    """Control flow from a leg to its journey: the worker gave the work away. Who is in no baton is computed again."""

    batons: tuple[Baton, ...]


def is_over_in_time(draining: Draining, num_tokens: int) -> bool:
    """Whether an answer that may get `num_tokens` more tokens will surely end on a worker that drains."""
    return num_tokens * draining.step_s <= STAY_SHARE * draining.left_s
