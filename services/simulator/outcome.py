"""What became of every request, and what the machines did: filled by the event loop, read by the report."""

import math
from collections import Counter
from dataclasses import dataclass, field

BINS_PER_OCTAVE = 16
"""Chosen: gaps between tokens are kept within 4.4 %, in a table instead of one number per token."""

FINEST_S = 1e-5


@dataclass(slots=True)
class Served:
    """One request's times, seconds of virtual time. None: it has not come to that."""

    arrived: float
    prompt_tokens: int
    output_tokens: int
    admitted: float | None = None
    queued: float | None = None
    read_from: float | None = None
    first_token: float | None = None
    running: float | None = None
    """Its pages have landed where the answer is written; where that is the reader, its first token."""
    finished: float | None = None
    cached_tokens: int = 0
    is_remote: bool = False
    is_refused: bool = False

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token."""
        return None if self.first_token is None else self.first_token - self.arrived

    @property
    def itl_s(self) -> float | None:
        """Mean time between two tokens; None for an answer of one."""
        if self.finished is None or self.first_token is None or self.output_tokens < 2:
            return None
        return (self.finished - self.first_token) / (self.output_tokens - 1)


@dataclass(slots=True)
class MachineTally:
    """What one machine did."""

    name: str
    prompt_tokens: int = 0
    uncached_tokens: int = 0
    read_tokens: int = 0
    """Of these, what steps have computed so far."""
    requests: int = 0
    steps: int = 0
    decoded_tokens: int = 0
    busy_s: float = 0.0
    preemptions: int = 0
    evictions: int = 0


@dataclass(slots=True)
class Gaps:
    """Times between tokens, counted in logarithmic bins. Writer: the machines, once per step."""

    bins: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float, count: int = 1) -> None:
        self.bins[int(math.log2(max(seconds, FINEST_S) / FINEST_S) * BINS_PER_OCTAVE)] += count

    def quantile(self, share: float) -> float | None:
        """The middle of the bin in which it lies."""
        left = share * sum(self.bins.values())
        for index in sorted(self.bins):
            left -= self.bins[index]
            if left <= 0:
                return FINEST_S * float(2 ** ((index + 0.5) / BINS_PER_OCTAVE))
        return None


@dataclass(slots=True)
class Outcome:
    """One policy on one trace."""

    policy: str
    served: list[Served] = field(default_factory=list)
    machines: list[MachineTally] = field(default_factory=list)
    gaps: Gaps = field(default_factory=Gaps)
    num_bounced: int = 0
    """Placements that a worker refused for lack of room: tried again."""
    num_events: int = 0
