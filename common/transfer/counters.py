"""What this room counts. Plain numbers: the worker wires them to the metric catalogue."""

from collections import Counter, deque
from dataclasses import dataclass, field

from common.core.errors import Reason
from common.transfer.messages import Outcome, OutcomeState

MAX_RECENT = 1024
"""Chosen: a histogram that is scraped every 15 s misses nothing below 68 runs a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTotals:
    """One direction's totals since start. started = done + failed + expired + in flight."""

    started: int
    done: int
    failed: int
    expired: int
    pages: int
    bytes: int
    seconds: float
    failures: dict[Reason, int]
    incidents: dict[str, int]
    num_moves: int = 0
    recent_moves_s: tuple[float, ...] = ()
    """Durations of the last of `num_moves` runs, at most MAX_RECENT."""

    @property
    def in_flight(self) -> int:
        return self.started - self.done - self.failed - self.expired

    def named(self, direction: str) -> dict[str, float]:
        """As `<direction>_transfers_<what>`; incidents only once they happened."""
        counts = {name: getattr(self, name) for name in ("started", "done", "failed", "expired", "pages", "bytes")}
        return {f"{direction}_transfers_{name}": float(count) for name, count in {**counts, **self.incidents}.items()}


@dataclass(slots=True)
class TransferCounters:
    """One direction. Writer: the event loop. `incidents` are counted under the fixed names used in this room:

    fenced, duplicate_offer, refused_offer, digest_mismatch, dropped_run, offer_retry, link_opened, link_failed,
    link_evicted, link_superseded, link_reopened, bug.
    """

    started: int = 0
    ended: Counter[OutcomeState] = field(default_factory=Counter)
    pages: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: Counter[Reason] = field(default_factory=Counter)
    incidents: Counter[str] = field(default_factory=Counter)
    num_moves: int = 0
    recent_moves_s: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RECENT))

    def end(self, outcome: Outcome) -> None:
        """Exactly once per started transfer."""
        assert outcome.is_terminal, outcome
        self.ended[outcome.state] += 1
        if outcome.reason is not None:
            self.failures[outcome.reason] += 1

    def moved(self, num_pages: int, num_bytes: int, seconds: float) -> None:
        """A run went over the data plane in `seconds`."""
        self.num_moves += 1
        self.recent_moves_s.append(seconds)
        self.pages += num_pages
        self.bytes += num_bytes
        self.seconds += seconds

    def snapshot(self) -> TransferTotals:
        return TransferTotals(
            started=self.started,
            done=self.ended[OutcomeState.DONE],
            failed=self.ended[OutcomeState.FAILED],
            expired=self.ended[OutcomeState.EXPIRED],
            pages=self.pages,
            bytes=self.bytes,
            seconds=self.seconds,
            failures=dict(self.failures),
            incidents=dict(self.incidents),
            num_moves=self.num_moves,
            recent_moves_s=tuple(self.recent_moves_s),
        )
