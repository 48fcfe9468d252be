"""Measures a pair for `baton doctor`: the control plane, opening, and bytes through the same steps as real pages."""

from common.core.clock import Clock
from common.core.errors import InvalidRequest
from common.core.ids import WorkerRef
from common.kv.staging import StagingPool
from common.transfer.digester import Digester
from common.transfer.limits import TransferLimits
from common.transfer.link import Link
from common.transfer.links import LinkTable
from common.transfer.messages import Meet, PageRun, ProbeReport
from common.transfer.peer import Peers
from common.transfer.plan import max_run_pages, pages_of, run_bytes, split


class Prober:
    """Stateless. The receiver verifies and drops what it gets; no transfer is counted."""

    def __init__(
        self,
        page_bytes: int,
        *,
        meet: Meet,
        links: LinkTable,
        peers: Peers,
        staging: StagingPool,
        digester: Digester,
        limits: TransferLimits,
        clock: Clock,
    ) -> None:
        self._page_bytes = page_bytes
        self._meet = meet
        self._links = links
        self._peers = peers
        self._staging = staging
        self._digester = digester
        self._limits = limits
        self._clock = clock

    async def probe(self, target: WorkerRef, num_bytes: int) -> ProbeReport:
        """Opens a pair to `target`, or uses the one in use, and sends at least `num_bytes`, in whole pages.

        Raises InvalidRequest above the ceiling, and whatever opening and sending raise: that is the finding.
        """
        if not 0 < num_bytes <= self._limits.max_probe_bytes:
            raise InvalidRequest(message=f"a probe moves 1 to {self._limits.max_probe_bytes} bytes, not {num_bytes}")
        begun = self._clock.monotonic()
        link = await self._links.hold(target)
        try:
            opened = self._clock.monotonic()
            # The same words again: the pair is known, so this is one bare round trip.
            peer = self._peers.at(target)
            await peer.meet(link.pair, self._meet, timeout_s=self._limits.control_timeout_s)
            answered = self._clock.monotonic()
            pages = PageRun(first_page=0, num_pages=pages_of(num_bytes, self._page_bytes))
            data_s = await self._send(link, pages)
        finally:
            self._links.let_go(link)
        return ProbeReport(
            control_s=answered - opened,
            setup_s=opened - begun,
            data_s=data_s,
            num_bytes=run_bytes(pages, self._page_bytes),
            channel=link.pair.channel,
            passed_over=link.passed_over,
        )

    async def _send(self, link: Link, pages: PageRun) -> float:
        """Seconds on the data plane alone."""
        most = min(self._staging.num_bytes, link.max_run_bytes)
        seconds = 0.0
        staging = await self._staging.acquire(self._limits.open_timeout_s)
        try:
            for run in split(pages, max_run_pages(most, self._page_bytes)):
                data = staging.view[: run_bytes(run, self._page_bytes)]
                digests = await self._digester.digest(
                    data, self._page_bytes, link.digest_key, first_index=run.first_page
                )
                seconds += await link.carry(None, run, data, digests=digests)
        finally:
            staging.release()
        return seconds
