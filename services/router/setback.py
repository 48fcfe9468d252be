"""What can break a leg, by what is done about it. Pure: errors and events in, a LegBroken out."""

from dataclasses import dataclass
from enum import StrEnum

from common.core.errors import (
    BatonError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    Reason,
    Refused,
    Unavailable,
    Unsupported,
)
from common.core.events import WorkFailed
from common.core.ids import RequestId, WorkerRef


class Setback(StrEnum):
    """Kinds of broken legs."""

    REFUSED = "refused"
    """No room: wait for a turn. Overload is not ill health, and costs no attempt."""
    LOST = "lost"
    """The worker is gone: move."""
    LEFT = "left"
    """The worker leaves in order, and gave the work back: move. Nobody failed, so nothing is counted."""
    FAILED = "failed"
    """The worker could not do it: another one, within the retry budget."""
    POISON = "poison"
    """The model step failed on this request: one more worker, then never again."""
    PAUSED = "paused"
    """The client does not read: the place is given up until it does."""


@dataclass(kw_only=True)
class LegBroken(Exception):
    """Control flow from a leg to its journey, never further. `worker` is who to avoid."""

    setback: Setback
    cause: BatonError
    worker: WorkerRef | None = None


def no_room(request: RequestId) -> LegBroken:
    """No decode worker can take it now, although one could when its turn came."""
    cause = Refused(message=f"no decode worker has room for {request}", reason=Reason.NO_PAGES)
    return LegBroken(setback=Setback.REFUSED, cause=cause)


def lost(worker: WorkerRef, why: str, *, is_leaving: bool = False) -> LegBroken:
    """The stream from a worker broke. Of one that was leaving that was to be expected."""
    if is_leaving:
        cause = Unavailable(message=f"worker {worker.worker} has left", reason=Reason.DRAINING)
        return LegBroken(setback=Setback.LEFT, cause=cause, worker=worker)
    cause = Unavailable(message=f"worker {worker.worker} was lost: {why}", reason=Reason.CHANNEL_BROKEN)
    return LegBroken(setback=Setback.LOST, cause=cause, worker=worker)


def pages_gone(cause: BatonError) -> LegBroken:
    """Pages that another worker kept could not be had: they are computed again, and nobody is avoided for it."""
    return LegBroken(setback=Setback.LOST, cause=cause)


def blamed(worker: WorkerRef, error: BatonError) -> LegBroken:
    """What a failed placement call means. Re-raises what only the client can change."""
    match error:
        case InvalidRequest() | Unsupported():
            raise error
        case Refused():
            return LegBroken(setback=Setback.REFUSED, cause=error, worker=worker)
        case InternalError():
            return LegBroken(setback=Setback.POISON, cause=error, worker=worker)
        case Unavailable(reason=Reason.DRAINING):
            return LegBroken(setback=Setback.REFUSED, cause=error, worker=worker)
        case _:
            return LegBroken(setback=Setback.FAILED, cause=error, worker=worker)


_FINAL = {Reason.INVALID_REQUEST: InvalidRequest, Reason.CONTEXT_LENGTH_EXCEEDED: InvalidRequest}
_SETBACK = {
    Reason.INTERNAL: Setback.POISON,
    Reason.POISON_REQUEST: Setback.POISON,
    Reason.NO_PAGES: Setback.REFUSED,
    Reason.QUEUE_FULL: Setback.REFUSED,
    Reason.MEMORY_PRESSURE: Setback.REFUSED,
    Reason.DRAINING: Setback.LEFT,
    Reason.CANCELLED: Setback.LOST,
}


def failure_of(worker: WorkerRef, event: WorkFailed) -> LegBroken:
    """What a worker's own report means. Raises what ends the request, whoever would try it."""
    message = f"{worker.worker}: {event.message}"
    if (final := _FINAL.get(event.reason)) is not None:
        raise final(message=message, reason=event.reason)
    if event.reason is Reason.DEADLINE_EXCEEDED:
        raise DeadlineExceeded(message=message)
    setback = _SETBACK.get(event.reason, Setback.FAILED)
    return LegBroken(setback=setback, cause=Unavailable(message=message, reason=event.reason), worker=worker)
