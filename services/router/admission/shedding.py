"""Who is refused before the queue is full. Pure.

Near saturation a growing share is refused, so that those who are let in are still served in time: a queue that is
always full serves everybody late. The share depends on the predicted wait of this tenant in this class against the
class's promise, so that a flood is shed and its quiet neighbours are not.
"""

from common.core.errors import Reason, Refused
from common.core.queue import Cause
from services.router.admission.ticket import Ticket

FIRST_SHARE, LAST_SHARE = 0.3, 0.6
"""Chosen: of the promised time to the first token. From the first on some are shed, from the last on all: what is left
of the promise is for reading the prompt and for the prediction's error."""

MISS_FACTOR = 2.0
"""Refused as too late is only what is predicted to take twice the time that is left: predictions are not that good."""

MIN_RETRY_S, MAX_RETRY_S, UNKNOWN_RETRY_S = 0.1, 30.0, 1.0


def shed_share(wait_s: float | None, promise_s: float) -> float:
    """Share of new requests to refuse, 0 to 1. Unknown waits shed nobody."""
    if wait_s is None or promise_s == float("inf"):
        return 0.0
    return min(max((wait_s / promise_s - FIRST_SHARE) / (LAST_SHARE - FIRST_SHARE), 0.0), 1.0)


def shed(ticket: Ticket, *, wait_s: float | None, promise_s: float, cause: Cause | None, chance: float) -> None:
    """Raises Refused for those who are shed; `chance` is uniform in [0, 1)."""
    if wait_s is None or chance >= shed_share(wait_s, promise_s):
        return
    is_memory = cause is Cause.DECODE_FULL
    raise Refused(
        message=f"{ticket.priority} requests would wait {wait_s:.1f} s of the promised {promise_s:g} s",
        reason=Reason.MEMORY_PRESSURE if is_memory else Reason.LOAD_SHED,
        quota_subject=f"wait:{ticket.priority}",
        retry_after_s=retry_after_s(wait_s, chance),
    )


def refuse_hopeless(ticket: Ticket, *, wait_s: float | None, now: float, chance: float) -> None:
    """Raises Refused for whom the deadline comes long before the first token could."""
    needed_s, left_s = (wait_s or 0.0) + ticket.reading_s, ticket.deadline - now
    if needed_s > MISS_FACTOR * left_s > 0:  # what is late already is told so by its deadline
        raise Refused(
            message=f"the first token is {needed_s:.1f} s away, the deadline {left_s:.1f} s",
            reason=Reason.DEADLINE_UNREACHABLE,
            quota_subject=f"wait:{ticket.priority}",
            retry_after_s=retry_after_s(wait_s, chance),
        )


def retry_after_s(wait_s: float | None, chance: float) -> float:
    """When trying again makes sense: half to once and a half the wait, so that those refused together do not come back
    together."""
    wanted_s = (UNKNOWN_RETRY_S if wait_s is None else wait_s) * (0.5 + chance)
    return min(max(wanted_s, MIN_RETRY_S), MAX_RETRY_S)
