"""How one frame comes in: offered, checked, staged, received, verified, handed over; or verified where it lands."""

import asyncio

from common.core.clock import Clock
from common.core.errors import BatonError, Reason, Refused, TransferFailed, Unavailable
from common.kv.layout import PageLayout
from common.kv.seal import Seal
from common.kv.span import Span
from common.kv.staging import StagingPool
from common.transfer.berth import find_berth
from common.transfer.channel import Berth
from common.transfer.counters import TransferCounters
from common.transfer.digester import Digester
from common.transfer.dock import Dock
from common.transfer.expectation import InboundTransfer
from common.transfer.inbound import InboundTransfers
from common.transfer.inlet import Inlet
from common.transfer.inlets import InletTable
from common.transfer.limits import TransferLimits
from common.transfer.messages import Offer, PageRun
from common.transfer.plan import digest_index
from common.transfer.scope import TaskScope
from common.transfer.scrutiny import check_probe


class Reception:
    """Answers offers. An accepted frame is always received, wanted or not: a pair whose frame is abandoned is dead.

    Everything is checked before a receive is posted, for a receive of the wrong size would abort the process.
    """

    def __init__(
        self,
        *,
        layout: PageLayout,
        inlets: InletTable,
        inbound: InboundTransfers,
        staging: StagingPool,
        dock: Dock | None,
        digester: Digester,
        limits: TransferLimits,
        counters: TransferCounters,
        scope: TaskScope,
        clock: Clock,
    ) -> None:
        self._layout = layout
        self._inlets = inlets
        self._inbound = inbound
        self._staging = staging
        self._dock = dock
        self._digester = digester
        self._limits = limits
        self._counters = counters
        self._scope = scope
        self._clock = clock

    async def offer(self, offer: Offer) -> None:
        """Returns once a receive for exactly the offered bytes is posted. A repeated offer gets the first's answer.

        Raises what the checks raise, Refused when no staging buffer comes free, TransferFailed when the pair is broken.
        """
        inlet = self._inlets.at(offer.pair)
        if (before := inlet.duplicate_of(offer)) is not None:
            self._counters.incidents["duplicate_offer"] += 1
            await self._answer_again(inlet, before)
            return
        if self._inbound.has_taken(offer):
            self._counters.incidents["duplicate_offer"] += 1
            return
        self._check_room(inlet)
        transfer = self._claim(offer)
        if transfer is not None and offer.run.num_pages == 0:
            self._inbound.begin(transfer, offer)
            return
        accepted = inlet.begin(offer)
        try:
            await self._accept(offer, inlet, transfer)
        except BaseException as error:
            self._turn_away(offer, inlet, transfer, error)
            raise
        accepted.set_result(None)

    async def _answer_again(self, inlet: Inlet, before: "asyncio.Future[None]") -> None:
        try:
            async with asyncio.timeout(self._limits.offer_s):
                await asyncio.shield(before)
        except TimeoutError:
            message = f"{inlet.pair}: the first offer still waits"
            raise Unavailable(message=message, reason=Reason.CHANNEL_BROKEN) from None

    def _check_room(self, inlet: Inlet) -> None:
        """A sender that announces frames and does not send them holds no more than its share of what frames lie in."""
        if len(inlet.coming) >= self._limits.max_accepted:
            self._counters.incidents["refused_offer"] += 1
            message = f"{inlet.pair}: {len(inlet.coming)} frames were accepted and have not come"
            raise Refused(message=message, reason=Reason.MEMORY_PRESSURE)

    def _claim(self, offer: Offer) -> InboundTransfer | None:
        """None: a probe."""
        try:
            if offer.transfer is not None:
                return self._inbound.claim(offer)
            check_probe(offer, page_bytes=self._layout.page_bytes, max_run_bytes=self._staging.num_bytes)
        except BatonError:
            self._counters.incidents["refused_offer"] += 1
            raise
        return None

    async def _accept(self, offer: Offer, inlet: Inlet, transfer: InboundTransfer | None) -> None:
        channel = await inlet.channel()
        berth = await find_berth(channel, self._staging, self._dock, timeout_s=self._limits.staging_timeout_s)
        try:
            self._check_still_wanted(inlet, transfer)
            work = self._receive(offer, inlet, transfer, berth)
            self._scope.spawn(work, name=f"receive {inlet.pair} frame {offer.frame}")
        except BaseException:
            berth.release()
            raise
        inlet.pending += 1
        inlet.coming[offer.frame] = offer.num_bytes
        if transfer is not None:
            self._inbound.begin(transfer, offer)

    def _turn_away(self, offer: Offer, inlet: Inlet, transfer: InboundTransfer | None, error: BaseException) -> None:
        self._counters.incidents["refused_offer"] += 1
        if transfer is not None:
            self._inbound.unclaim(transfer, offer)
        if not isinstance(error, BatonError):
            # The call was cancelled. A repetition that came meanwhile is told to come again.
            error = Unavailable(message=f"{inlet.pair}: the offer was interrupted", reason=Reason.CHANNEL_BROKEN)
        inlet.refuse(offer, error)

    def _check_still_wanted(self, inlet: Inlet, transfer: InboundTransfer | None) -> None:
        """A renewal, a release or the end of the pair may have come while the offer waited."""
        if inlet.is_closed:
            raise TransferFailed(message=f"{inlet.pair} closed meanwhile", reason=Reason.CHANNEL_BROKEN)
        if transfer is not None and transfer.outcome.is_terminal:
            raise TransferFailed(message=f"{transfer.id} ended meanwhile: {transfer.outcome.message}")

    async def _receive(self, offer: Offer, inlet: Inlet, transfer: InboundTransfer | None, berth: Berth) -> None:
        """The frame's bytes, whatever has become of the transfer. The berth goes to the sink or back."""
        is_lent = False
        try:
            started = self._clock.monotonic()
            await self._wait_bytes(offer, inlet, berth)
            counters = self._counters.of(inlet.pair.channel)
            counters.moved(offer.run.num_pages, offer.num_bytes, self._clock.monotonic() - started)
            seal = Seal(key=inlet.digest_key, first_index=digest_index(offer.run), digests=offer.digests)
            if transfer is not None and transfer.expectation.verifies:
                is_lent = self._inbound.hand_over(transfer, offer.run, berth, offer.num_bytes, seal)
            elif not await self._verify(offer.run, berth.view[: offer.num_bytes], seal):
                self._inbound.mismatch(transfer, inlet.pair, offer.run)
            elif transfer is not None:
                is_lent = self._inbound.hand_over(transfer, offer.run, berth, offer.num_bytes)
        except TransferFailed as error:
            self._counters.incidents["link_failed"] += 1
            await self._inlets.shut(inlet.pair, error.message)
        finally:
            inlet.pending -= 1
            if not is_lent:
                berth.release()

    async def _wait_bytes(self, offer: Offer, inlet: Inlet, berth: Berth) -> None:
        """Frames that were announced before it come before it: their time is not its own."""
        timeout_s = self._limits.receive_s(offer.num_bytes, inlet.before(offer.frame))
        try:
            await berth.receive(offer.frame, offer.num_bytes, timeout_s=timeout_s)
        finally:
            del inlet.coming[offer.frame]

    async def _verify(self, run: PageRun, data: Span, seal: Seal) -> bool:
        """Every page's digest is the one offered: the bytes are those that left, each under its own index."""
        size = self._layout.part_bytes(run.layers)
        return seal.fits(await self._digester.digest(data, size, seal.key, first_index=seal.first_index))
