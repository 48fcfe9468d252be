"""What a receiver waits for, and what it is handed: the words between this room and decode's arrivals."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from common.core.ids import RequestId, TransferId
from common.kv.seal import Seal
from common.kv.span import Span
from common.transfer.channel import Lent
from common.transfer.claims import LayerClaims
from common.transfer.messages import Finale, Outcome, OutcomeState, PageRun, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What one attempt must bring: pages [held_pages, total_pages) of `request` and a finale for some of `choices`."""

    transfer: TransferId
    request: RequestId
    total_pages: int
    held_pages: int
    page_bytes: int
    num_layers: int = 1
    """Of a page: runs may bring some of them. 1 where pages are taken whole."""
    choices: tuple[int, ...] = (0,)
    verifies: bool = False
    """Whoever takes the runs verifies them where they land. Else they are verified before it hears of them."""
    must_begin_s: float | None = None
    """Without an offer within this time it has expired. None: whoever promised the pages watches over that."""

    def __post_init__(self) -> None:
        assert 0 <= self.held_pages <= self.total_pages, f"{self.transfer}: {self}"

    @property
    def num_wanted(self) -> int:
        return self.total_pages - self.held_pages

    @property
    def num_wanted_layers(self) -> int:
        """Layers of all wanted pages together."""
        return self.num_wanted * self.num_layers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrival:
    """A run in a buffer or where the channel put it, lent to the sink until `landed`, `corrupt` or `dropped`."""

    transfer: TransferId
    pair: Pair
    run: PageRun
    staging: Lent
    num_bytes: int
    seal: Seal | None = None
    """What its bytes must fit before anybody reads the pages that they land in. None: they did."""

    @property
    def data(self) -> Span:
        """The run's bytes, page after page, wherever they lie."""
        return self.staging.view[: self.num_bytes]


class TransferSink(Protocol):
    """Who wants the pages. Called on the event loop; must not wait, and must not raise but where it says so."""

    def on_run(self, arrival: Arrival) -> None:
        """Raises Refused when it cannot take the run, which then is not lent and fails the transfer."""
        ...

    def on_finale(self, transfer: TransferId, finale: Finale) -> None:
        """Every page was verified; where the sink does that, every page has landed."""
        ...

    def on_failed(self, transfer: TransferId, outcome: Outcome) -> None: ...


class InboundState(StrEnum):
    """EXPECTED -> RECEIVING -> DONE | FAILED | EXPIRED. The arrows are drawn in inbound.py."""

    EXPECTED = "expected"
    RECEIVING = "receiving"
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"


class InboundTransfer:
    """One attempt's progress. Writer: InboundTransfers."""

    def __init__(self, expectation: Expectation, sink: TransferSink) -> None:
        self.expectation = expectation
        self.sink = sink
        self.state = InboundState.EXPECTED
        self.outcome = Outcome(state=OutcomeState.PENDING)
        self.ended = asyncio.Event()
        self.pair: Pair | None = None
        self.finale: Finale | None = None
        self.moved_at = 0.0
        self.claimed = LayerClaims(expectation.num_layers)
        self.come_layers = 0
        self.landed_layers = 0

    @property
    def id(self) -> TransferId:
        return self.expectation.transfer

    @property
    def is_running(self) -> bool:
        return self.state is InboundState.RECEIVING

    @property
    def has_all_bytes(self) -> bool:
        """All of it is here: the network can do it no harm any more. Verified, but for what lands first."""
        return self.finale is not None and self.come_layers == self.expectation.num_wanted_layers

    @property
    def is_verified(self) -> bool:
        """Every page is what was sent: its finale may be told."""
        return self.has_all_bytes and (self.has_landed or not self.expectation.verifies)

    @property
    def has_landed(self) -> bool:
        """Every layer of every wanted page is in its place."""
        return self.landed_layers == self.expectation.num_wanted_layers

    @property
    def landed_pages(self) -> int:
        """As many whole pages as what has landed would fill."""
        return self.landed_layers // self.expectation.num_layers
