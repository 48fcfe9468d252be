"""Why nobody can take a request now: what the line asks before it lets one in. Pure."""

from collections.abc import Sequence

from common.core.queue import Cause
from common.core.worker import Role
from services.router.view import WorkerView

MAX_BACKLOG_TOKENS = 65_536
"""Chosen: ten seconds of one prefill worker on a CPU. Beyond it requests wait here, where class and deadline count."""


def obstacle(views: Sequence[WorkerView], num_pages: int, num_tokens: int) -> Cause | None:
    """Of workers that may get new work: why these pages cannot be placed now, with `num_tokens` of others on the way to
    prefill. None: they can."""
    decodes = [view for view in views if view.role is Role.DECODE]
    prefills = [view for view in views if view.role is Role.PREFILL]
    if not decodes:
        return Cause.NO_WORKERS
    if prefills and not any(
        view.has_room and view.backlog_tokens + num_tokens <= MAX_BACKLOG_TOKENS for view in prefills
    ):
        return Cause.PREFILL_BUSY
    if not any(view.has_room and view.num_places > 0 and view.available_pages >= num_pages for view in decodes):
        return Cause.DECODE_FULL
    return None
