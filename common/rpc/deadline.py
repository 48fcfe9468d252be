"""How long a call may take. A deadline travels as remaining time: clocks of two machines are never compared."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field

DEADLINE_KEY = "baton-deadline-ms"
"""Trailing metadata of every call that had a deadline: the time that the server allowed it, from its start."""

_DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePolicy:
    """What the server allows. `endless` methods are long streams that live as long as their caller."""

    default_s: float = 600.0
    max_s: float = 3600.0
    endless: frozenset[str] = field(
        default_factory=lambda: frozenset(
            {
                "/baton.v1.WorkerService/Subscribe",
                "/vllm.grpc.engine.VllmEngine/SubscribeKvEvents",
                "/grpc.health.v1.Health/Watch",
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            }
        )
    )

    def allowed_s(self, method: str, asked_s: float | None) -> float | None:
        """Seconds for one call of `method`; None is without end."""
        if asked_s is None:
            return None if method in self.endless else self.default_s
        return min(max(asked_s, 0.0), self.max_s)


def enter_call(allowed_s: float | None) -> float | None:
    """Starts this call's time. Returns the moment it ends, on the event loop's clock."""
    deadline = None if allowed_s is None else asyncio.get_running_loop().time() + allowed_s
    _DEADLINE.set(deadline)
    return deadline


def remaining_s() -> float | None:
    """Seconds left of the call being handled by this task; None where it has no deadline. Never negative."""
    deadline = _DEADLINE.get()
    return None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0.0)
