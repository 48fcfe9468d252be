"""What the decode core says to the event loop."""

from dataclasses import dataclass

from common.core.ids import ReservationId
from common.core.request import Work
from common.engine.telling import Outgoing, Owned, Stepped
from common.worker.prefix_desk import PrefixClosed
from common.worker.retention import PagesDropped, PagesKept


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationClosed:
    """No page of this reservation is wanted any more. `is_adopted`: it became running sequences."""

    reservation: ReservationId
    is_adopted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartedChoice:
    """One choice that is written here no more, after `num_tokens` output tokens. `kept` None: without its pages."""

    choice: int
    num_tokens: int
    kept: PagesKept | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Departed:
    """A request that is being handed over. Its router's tokens were told before."""

    work: Work
    choices: tuple[DepartedChoice, ...]


Leaving = Departed | PagesDropped
RoleEvent = ReservationClosed | Leaving | PrefixClosed
DecodeEvent = Outgoing | Stepped | Owned | RoleEvent
