"""What this room counts. Plain numbers: the worker wires them to the metric catalogue."""

from collections import Counter, deque
from dataclasses import dataclass, field

from common.core.errors import Reason
from common.transfer.messages import Outcome, OutcomeState
from common.transfer.setbacks import SetbackCause

MAX_RECENT = 1024
"""Chosen: a histogram that is scraped every 15 s misses nothing below 68 runs a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTotals:
    """What one kind of channel carried in one direction since start. started = done + failed + expired + in flight."""

    started: int
    done: int
    failed: int
    expired: int
    pages: int
    bytes: int
    seconds: float
    failures: dict[Reason, int]
    num_moves: int
    recent_moves_s: tuple[float, ...]
    """Durations of the last of `num_moves` runs, at most MAX_RECENT."""

    @property
    def in_flight(self) -> int:
        return self.started - self.done - self.failed - self.expired


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTotals:
    """One direction's totals since start, over all channels."""

    channels: dict[str, ChannelTotals]
    incidents: dict[str, int]
    passed_over: dict[tuple[str, SetbackCause], int] = field(default_factory=dict)
    """Links that were opened without this better channel, by what stood in its way."""

    @property
    def started(self) -> int:
        return sum(channel.started for channel in self.channels.values())

    @property
    def done(self) -> int:
        return sum(channel.done for channel in self.channels.values())

    @property
    def failed(self) -> int:
        return sum(channel.failed for channel in self.channels.values())

    @property
    def expired(self) -> int:
        return sum(channel.expired for channel in self.channels.values())

    @property
    def in_flight(self) -> int:
        return sum(channel.in_flight for channel in self.channels.values())

    @property
    def pages(self) -> int:
        return sum(channel.pages for channel in self.channels.values())

    @property
    def bytes(self) -> int:
        return sum(channel.bytes for channel in self.channels.values())

    @property
    def seconds(self) -> float:
        return sum(channel.seconds for channel in self.channels.values())

    @property
    def num_moves(self) -> int:
        return sum(channel.num_moves for channel in self.channels.values())

    def named(self, direction: str) -> dict[str, float]:
        """As `<direction>_transfers_<what>`; incidents only once they happened."""
        counts = {name: getattr(self, name) for name in ("started", "done", "failed", "expired", "pages", "bytes")}
        return {f"{direction}_transfers_{name}": float(count) for name, count in {**counts, **self.incidents}.items()}


@dataclass(slots=True)
class ChannelCounters:
    """One direction of one kind of channel."""

    started: int = 0
    ended: Counter[OutcomeState] = field(default_factory=Counter)
    pages: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: Counter[Reason] = field(default_factory=Counter)
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

    def snapshot(self) -> ChannelTotals:
        return ChannelTotals(
            started=self.started,
            done=self.ended[OutcomeState.DONE],
            failed=self.ended[OutcomeState.FAILED],
            expired=self.ended[OutcomeState.EXPIRED],
            pages=self.pages,
            bytes=self.bytes,
            seconds=self.seconds,
            failures=dict(self.failures),
            num_moves=self.num_moves,
            recent_moves_s=tuple(self.recent_moves_s),
        )


@dataclass(slots=True)
class TransferCounters:
    """One direction. Writer: the event loop. `incidents` are counted under the fixed names used in this room:

    fenced, duplicate_offer, refused_offer, digest_mismatch, dropped_run, offer_retry, link_opened, link_failed,
    link_evicted, link_superseded, link_reopened, link_improved, channel_crashed, bug.
    """

    incidents: Counter[str] = field(default_factory=Counter)
    channels: dict[str, ChannelCounters] = field(default_factory=dict)
    passed_over: Counter[tuple[str, SetbackCause]] = field(default_factory=Counter)

    def of(self, channel: str) -> ChannelCounters:
        """The counters of one kind of channel: those of the menu, and so few."""
        return self.channels.setdefault(channel, ChannelCounters())

    def snapshot(self) -> TransferTotals:
        channels = {name: counters.snapshot() for name, counters in self.channels.items()}
        return TransferTotals(channels=channels, incidents=dict(self.incidents), passed_over=dict(self.passed_over))
