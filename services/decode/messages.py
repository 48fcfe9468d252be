"""What the decode core says to the event loop."""

from dataclasses import dataclass

from common.core.ids import ReservationId
from common.engine.telling import Outgoing, Owned, Stepped


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLanded:
    """One page run left its staging: copied into the promised pages, or refused. Either way the staging is free."""

    reservation: ReservationId
    attempt: int
    first_page: int
    num_pages: int
    is_accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationClosed:
    """No frame for this reservation is wanted any more. `is_adopted`: it became running sequences."""

    reservation: ReservationId
    is_adopted: bool


Landed = RunLanded | ReservationClosed
DecodeEvent = Outgoing | Stepped | Owned | Landed
