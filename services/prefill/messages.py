"""What the prefill core says to the event loop."""

from dataclasses import dataclass

from common.core.ids import RequestId, ReservationId, RouterRef, WorkerRef
from common.engine.telling import Outgoing, Owned, Stepped
from common.kv.seal import Sealing
from common.transfer.channel import Lent
from common.transfer.messages import Finale, PageRun
from common.worker.prefix_desk import PrefixClosed
from common.worker.retention import PagesDropped, PagesKept


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A promise on a decode worker, as its Reserve answered. The leading `held_pages` are there already."""

    worker: WorkerRef
    reservation: ReservationId
    held_pages: int
    takes_layers: bool = False
    """Whether runs of some layers may be sent there: it was asked before, and said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReady:
    """A page run's bytes lie in `staging`, a buffer here or a slot of the receiver; whoever ships it gives that back.

    The finale comes with the last.
    """

    router: RouterRef
    request: RequestId
    attempt: int
    destination: Destination
    run: PageRun
    num_bytes: int
    staging: Lent | None
    finale: Finale | None
    sealing: Sealing | None = None
    """The run's digests, where they were made with its gather."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportDropped:
    """The attempt is over before its finale: what was shipped of it is void."""

    request: RequestId
    attempt: int
    reason: str


Exporting = RunReady | ExportDropped | PagesKept | PagesDropped | PrefixClosed
PrefillEvent = Outgoing | Stepped | Owned | Exporting
