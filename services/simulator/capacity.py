"""Whether the fleet has room, as `services/router/obstacle.py` answers it, over the simulated router's view."""

from collections.abc import Callable

from common.core.queue import Cause
from common.core.request import Priority
from common.core.worker import Role
from common.engine.plan import reserve_of
from services.router.obstacle import MAX_BACKLOG_TOKENS
from services.router.view import FleetView


class SeenCapacity:
    """Answers the line's question from the latest view."""

    def __init__(self, view: Callable[[], FleetView]) -> None:
        self._view = view

    def obstacle(self, num_pages: int, num_tokens: int) -> Cause | None:
        """Why a request for these pages cannot be placed now; None: it can."""
        view = self._view()
        prefills = view.eligible(Role.PREFILL)
        if prefills and not any(
            each.has_room and each.backlog_tokens + num_tokens <= MAX_BACKLOG_TOKENS for each in prefills
        ):
            return Cause.PREFILL_BUSY
        if not any(each.has_room and each.available_pages >= num_pages for each in view.eligible(Role.DECODE)):
            return Cause.DECODE_FULL
        return None

    def places_for(self, priority: Priority) -> int | None:
        """As many as the decode workers have; None where one does not say."""
        totals = [each.load.max_sequences for each in self._view().eligible(Role.DECODE)]
        return sum(total - reserve_of(priority, total) for total in totals) if totals and all(totals) else None
