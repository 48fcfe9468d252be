"""What is known about a worker from outside: role, state, load."""

from dataclasses import dataclass
from enum import StrEnum

from common.core.cost.model import CostModel
from common.core.ids import WorkerRef


class Role(StrEnum):
    """Which half of inference a worker is placed for."""

    PREFILL = "prefill"
    DECODE = "decode"


class WorkerState(StrEnum):
    """STARTING -> READY -> DRAINING -> gone. SUSPECT is a router's own view of a silent worker, never published."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCounts:
    """Pages by state. The four states sum to `total` whenever the worker is between two steps."""

    total: int
    free: int
    promised: int
    referenced: int
    cached: int

    def __post_init__(self) -> None:
        parts = self.free + self.promised + self.referenced + self.cached
        assert parts == self.total, f"pages do not sum: {parts} of {self.total} ({self})"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """A worker's load as it saw itself. Published with every heartbeat and event message."""

    pages: PageCounts
    waiting_requests: int = 0
    waiting_tokens: int = 0
    """Prompt tokens that are still to be computed: without those that the cache has, and with those that are left of
    prompts which have begun."""
    unread_prompts: int | None = None
    """Prompts that these tokens belong to; promised ones are read elsewhere. None: told by an older worker, of which
    nobody knows whether its tokens hold what is left of prompts that have begun."""
    running_sequences: int = 0
    outstanding_exports: int = 0
    step_seconds: float = 0.0
    step_batch: int = 0
    tokens_per_second: float = 0.0
    """Drawn on decode, read on prefill; over the last seconds."""
    read_tokens_per_second: float = 0.0
    """On decode: prompt tokens read beside answers; prefill tells its own in tokens_per_second."""
    steps: int = 0
    cost: CostModel | None = None
    """What this worker's own steps cost; None while it has fitted nothing."""
    max_sequences: int = 0
    """Sequences that may be here at once, waiting and promised ones included; 0: not told."""
    context_tokens: int = 0
    """Context of the running sequences, which a decode step reads."""
    drain_left_s: float | None = None
    """Seconds until a draining worker cuts what is left; None while it does not drain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One live incarnation as the directory knows it."""

    worker: WorkerRef
    role: Role
    state: WorkerState
    load: LoadReport
    layout_fingerprint: bytes
    metrics_address: str = ""
    pool: str = ""
    """Request class that this worker is kept for; empty: every class."""
    page_bytes: int = 0
    """What the transfer of one page moves; 0: not told."""
    model_digest: bytes = b""
    """Of the weights that it computes with; empty: not told."""
