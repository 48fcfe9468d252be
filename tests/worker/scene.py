"""One worker without a role: presence, subscriptions, and a core that writes down what it is told."""

from collections.abc import Mapping

from common.core.ids import Epoch, RouterRef, WorkerId, WorkerRef
from common.core.request import Work
from common.core.ticket import Ticket
from common.core.worker import LoadReport, PageCounts, Role
from common.kv.layout import PageLayout
from common.worker.presence import Presence
from common.worker.servicer import CancelItem

WORKER = WorkerRef(worker=WorkerId("w"), epoch=Epoch(7), address="127.0.0.1:1")
LAYOUT = PageLayout(num_layers=2, num_kv_heads=1, head_dim=8, page_size=16, dtype="sim", model_digest=b"m" * 32)


def load() -> LoadReport:
    return LoadReport(pages=PageCounts(total=8, free=5, promised=1, referenced=2, cached=0), steps=3)


def presence() -> Presence:
    return Presence(WORKER, role=Role.DECODE, layout=LAYOUT, load=load)


class RecordingCore:
    """A WorkerCore with nothing to compute, and its WorkerHost."""

    def __init__(self) -> None:
        self.cancelled: list[tuple[RouterRef, CancelItem]] = []
        self.grace_s: float | None = None

    def cancel(self, router: RouterRef, items: tuple[CancelItem, ...]) -> None:
        self.cancelled.extend((router, item) for item in items)

    async def keep_prefix(self, work: Work, lease_s: float) -> Ticket | None:
        return None

    def counters(self) -> Mapping[str, float]:
        return {"pages_free": 5.0}

    async def drain(self, grace_s: float) -> int:
        self.grace_s = grace_s
        return 2
