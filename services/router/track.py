"""What the legs of all requests share: the fleet, the workers' streams, the calls."""

from dataclasses import dataclass

from common.core.clock import Clock
from services.router.borrowing import Borrowing
from services.router.budget import RetryBudget
from services.router.cancellations import Cancellations
from services.router.chooser import Chooser
from services.router.fleet import Fleet
from services.router.hints import PrefixHints
from services.router.inbox import Switchboard
from services.router.moves import Moves
from services.router.workers import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What every leg of every request is run on."""

    fleet: Fleet
    switchboard: Switchboard
    workers: Workers
    cancellations: Cancellations
    hints: PrefixHints
    budget: RetryBudget
    chooser: Chooser
    borrowing: Borrowing
    moves: Moves
    clock: Clock
