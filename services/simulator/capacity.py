"""Whether the fleet has room: the router's own answer, over what the simulated router sees."""

from collections.abc import Callable

from common.core.queue import Cause
from common.core.request import Priority
from common.core.worker import Role
from common.engine.plan import reserve_of
from services.router.obstacle import obstacle
from services.router.view import FleetView


class SeenCapacity:
    """Answers the line's question from the latest view."""

    def __init__(self, view: Callable[[], FleetView]) -> None:
        self._view = view

    def obstacle(self, num_pages: int, num_tokens: int) -> Cause | None:
        """Why a request for these pages cannot be placed now; None: it can."""
        views = [each for each in self._view().workers if each.is_eligible]
        return obstacle(views, num_pages, num_tokens)

    def places_for(self, priority: Priority) -> int | None:
        """As many as the decode workers have; None where one does not say."""
        totals = [each.load.max_sequences for each in self._view().eligible(Role.DECODE)]
        return sum(total - reserve_of(priority, total) for total in totals) if totals and all(totals) else None
