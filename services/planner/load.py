"""What `decide` looks at: the load of both roles at one moment."""

from dataclasses import dataclass

from common.core.cost.model import CostModel
from common.core.queue import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Workers of one role. `starting`: not ready yet, or ready for less than a start takes: their caches and their
    numbers are cold. Those that drain take no work."""

    ready: int = 0
    starting: int = 0
    draining: int = 0

    @property
    def coming(self) -> int:
        """Workers that take work, or soon will."""
        return self.ready + self.starting


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Prefill. `backlog_tokens`: prompt tokens that no cache has, at routers and on workers. `read_tokens_s`: what is
    being read per second now. `local_...`: the same on decode workers, which read beside their answers. `tokens_each`:
    of a waiting prompt; None: none waits. `cost` None: nobody warm knows."""

    crew: Crew
    backlog_tokens: int
    read_tokens_s: float
    local_backlog_tokens: int = 0
    local_read_tokens_s: float = 0.0
    tokens_each: float | None = None
    queue_s: float | None = None
    causes: frozenset[Cause] = frozenset()
    cost: CostModel | None = None

    @property
    def all_backlog_tokens(self) -> int:
        """Wherever they wait."""
        return self.backlog_tokens + self.local_backlog_tokens

    @property
    def all_read_tokens_s(self) -> float:
        """Whoever reads."""
        return self.read_tokens_s + self.local_read_tokens_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Decode. `sequences`: running, promised, and waiting for a place anywhere. `running`: those that run. Pages are
    those in use or promised, `pages_each` what one worker has; both 0: not told. `places_each`: sequences that one
    worker takes at most; 0: not told."""

    crew: Crew
    sequences: int
    running: int
    queued: int
    context_tokens: int = 0
    pages_used: int = 0
    pages_each: int = 0
    places_each: int = 0
    admission_s: float | None = None
    causes: frozenset[Cause] = frozenset()
    cost: CostModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Both roles."""

    reading: Reading
    writing: Writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """At one moment of a monotonic clock, seconds. `load` None: it is not known, which is not zero."""

    at: float
    load: Load | None
