"""How many requests wait, for whom and why: what autoscaling reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from common.core.request import Priority
from common.core.worker import Role


class Cause(StrEnum):
    """Why the first in line is not admitted."""

    NO_WORKERS = "no_workers"
    """No decode worker is usable."""
    DECODE_FULL = "decode_full"
    """No decode worker would promise the pages, or all its places are taken."""
    PREFILL_BUSY = "prefill_busy"
    """Every prefill worker has enough to read already."""
    ROUTER_FULL = "router_full"
    """The router holds as many requests as it may."""

    @property
    def role(self) -> Role | None:
        """Which role is short; None when it is neither."""
        match self:
            case Cause.NO_WORKERS | Cause.DECODE_FULL:
                return Role.DECODE
            case Cause.PREFILL_BUSY:
                return Role.PREFILL
            case Cause.ROUTER_FULL:
                return None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Requests of one class that wait for one role, as one router sees it. None is unknown, never zero."""

    role: Role
    priority: Priority
    requests: int
    uncached_tokens: int
    queue_s: float | None = None
    """Predicted time until those who wait now are admitted."""
    oldest_s: float | None = None
    cause: Cause | None = None


MAX_EXCESS = 1024
"""Tenants in one router's list. Chosen: a router with more than that to tell agrees to no list until it has fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitParts:
    """How one router divides the tenants' limits with others. `roster`: digest of all whom it counts, 0 before it
    counts anybody. `excess`: by digest of the tenant, streams above the part that this list leaves it."""

    roster: int
    excess: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReport:
    """One router's queues at one moment. `decode_admission_s`: how long requests lately waited for a place on decode;
    None: none was placed. `parts` None: it does not say."""

    depths: tuple[QueueDepth, ...]
    decode_admission_s: float | None = None
    parts: LimitParts | None = None
