"""How many requests wait, and for whom: what autoscaling reads."""

from dataclasses import dataclass

from common.core.request import Priority
from common.core.worker import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Requests of one class that wait for one role, as one router sees it."""

    role: Role
    priority: Priority
    requests: int
    uncached_tokens: int
