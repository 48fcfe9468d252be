"""The receiving side of transfers: what is expected, what may come in, and how each one ended.

    EXPECTED --first offer accepted--> RECEIVING --all pages verified and landed, finale in--> DONE
        |                                  |--a run fails, the pair closes, the sender aborts, a renewal--> FAILED
        |                                  `--idle for too long--> EXPIRED
        `--forget, a renewal, no offer where one was due--> (never started: not counted)

How arrivals uses it:

    inbound.expect(expectation, sink)     when pages are promised, and again with attempt + 1 for a renewal
    sink.on_run(arrival)                  bytes, here in full: to be landed, piece by piece
    inbound.landed(arrival)               they are in their pages: the staging buffer is free again
    inbound.dropped(arrival)              they are not wanted any more: likewise
    inbound.corrupt(arrival)              they are not what was sent: likewise. One of the three, once per arrival
    sink.on_finale(transfer, finale)      when every page is verified
    sink.on_failed(transfer, outcome)     FAILED or EXPIRED: the promise stands until the owner releases it
    inbound.forget(reservation)           the reservation is over, however it ended

A run is a claim on pages of the request; nothing here knows which pages of the pool they are.

When a run is verified is for its expectation to say: before its sink hears of it or, with `verifies`, by the sink as it
lands (common/worker/landing). Then the finale, without which no promise is kept, waits for the last landing too.
"""

import math
from collections import OrderedDict

from common.core.clock import Clock
from common.core.errors import BatonError, Fenced, NotFound, Reason, Refused
from common.core.ids import ReservationId, TransferId, WorkerRef
from common.core.waiting import wait_set
from common.kv.seal import Seal
from common.observe.logging import get_log
from common.transfer.channel import Lent
from common.transfer.counters import TransferCounters
from common.transfer.expectation import Arrival, Expectation, InboundState, InboundTransfer, TransferSink
from common.transfer.limits import TransferLimits
from common.transfer.messages import Offer, Outcome, OutcomeState, PageRun, Pair, TransferRef
from common.transfer.plan import num_layers_of
from common.transfer.scrutiny import check_offer

_LOG = get_log("transfer")


class InboundTransfers:
    """Every attempt this worker expects, one per reservation, and the outcomes of the last ones.

    Writer: the event loop. Synchronous, but for `wait_outcome`.
    """

    def __init__(
        self,
        me: WorkerRef,
        *,
        max_run_bytes: int,
        limits: TransferLimits,
        counters: TransferCounters,
        clock: Clock,
    ) -> None:
        self._me = me
        self._max_run_bytes = max_run_bytes
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._transfers: dict[ReservationId, InboundTransfer] = {}
        self._outcomes: OrderedDict[TransferId, Outcome] = OrderedDict()
        self._lent: set[Arrival] = set()

    def __len__(self) -> int:
        return len(self._transfers)

    @property
    def num_lent(self) -> int:
        """Arrivals that the sinks hold: they must all come back."""
        return len(self._lent)

    def expect(self, expectation: Expectation, sink: TransferSink) -> None:
        """Opens the door for one attempt; an older attempt of the reservation is over. Repeating it changes nothing.

        Raises Fenced for an older attempt, Refused when too many transfers are expected.
        """
        current = self._transfers.get(expectation.transfer.reservation)
        if current is not None:
            if current.expectation == expectation:
                return
            if expectation.transfer.attempt <= current.id.attempt:
                raise Fenced(message=f"{expectation.transfer} comes after attempt {current.id.attempt}")
            self._close(current, f"superseded by attempt {expectation.transfer.attempt}")
        elif len(self._transfers) >= self._limits.max_transfers:
            raise Refused(message=f"{self._limits.max_transfers} transfers are expected", reason=Reason.LOAD_SHED)
        transfer = self._transfers[expectation.transfer.reservation] = InboundTransfer(expectation, sink)
        transfer.moved_at = self._clock.monotonic()

    def forget(self, reservation: ReservationId) -> None:
        """The owner is done with it, or gives up. Idempotent. The sink hears no more; its arrivals must come back."""
        if (transfer := self._transfers.pop(reservation, None)) is not None:
            self._close(transfer, "the reservation was released")

    def claim(self, offer: Offer) -> InboundTransfer:
        """Takes an offer that passes every check: its pages are spoken for. Raises as check_offer does, or NotFound."""
        assert offer.transfer is not None, "a probe claims nothing"
        transfer = self._known(offer.transfer)
        try:
            check_offer(offer, transfer, me=self._me, max_run_bytes=self._max_run_bytes)
        except Fenced:
            self._counters.incidents["fenced"] += 1
            raise
        transfer.claimed.add(offer.run)
        transfer.pair = offer.pair
        transfer.moved_at = self._clock.monotonic()
        return transfer

    def has_taken(self, offer: Offer) -> bool:
        """Is this a finale without pages that was heard before? It has no frame by which the link would know."""
        if offer.transfer is None or offer.finale is None or offer.run.num_pages > 0:
            return False
        past = self._outcomes.get(offer.transfer.transfer)
        if past is not None:
            return past.state is OutcomeState.DONE
        transfer = self._transfers.get(offer.transfer.transfer.reservation)
        return transfer is not None and transfer.id == offer.transfer.transfer and transfer.finale == offer.finale

    def unclaim(self, transfer: InboundTransfer, offer: Offer) -> None:
        """The offer is refused after all, for want of staging or of a channel: as if it had not been heard."""
        transfer.claimed.remove(offer.run)
        if transfer.state is InboundState.EXPECTED:
            transfer.pair = None

    def begin(self, transfer: InboundTransfer, offer: Offer) -> None:
        """The offer is accepted. From the first one on the transfer counts as started."""
        if transfer.state is InboundState.EXPECTED:
            transfer.state = InboundState.RECEIVING
            self._counters.of(offer.pair.channel).started += 1
        transfer.finale = offer.finale or transfer.finale
        transfer.moved_at = self._clock.monotonic()
        self._settle(transfer)

    def hand_over(
        self, transfer: InboundTransfer, run: PageRun, staging: Lent, num_bytes: int, seal: Seal | None = None
    ) -> bool:
        """Bytes go to the sink, verified or with their seal, and the finale when all are. False: not wanted any more,
        keep the buffer."""
        assert (seal is not None) == transfer.expectation.verifies, f"{transfer.id}: who verifies {run}?"
        if not transfer.is_running:
            self._counters.incidents["dropped_run"] += 1
            return False
        assert transfer.pair is not None, f"{transfer.id}: bytes of no pair"
        arrival = Arrival(
            transfer=transfer.id, pair=transfer.pair, run=run, staging=staging, num_bytes=num_bytes, seal=seal
        )
        self._lent.add(arrival)
        transfer.come_layers += num_layers_of(run, transfer.expectation.num_layers)
        transfer.moved_at = self._clock.monotonic()
        try:
            transfer.sink.on_run(arrival)
        except Refused as error:  # the step loop's mailbox is full
            self._lent.discard(arrival)
            self.fail(transfer, error.reason, error.message)
            return False
        self._settle(transfer)
        return True

    def landed(self, arrival: Arrival) -> None:
        """The arrival's bytes are in their pages, and what was sent. Counts only while its attempt is the current
        one."""
        self._take_back(arrival)
        transfer = self._transfers.get(arrival.transfer.reservation)
        if transfer is None or transfer.id != arrival.transfer or not transfer.is_running:
            return
        transfer.landed_layers += num_layers_of(arrival.run, transfer.expectation.num_layers)
        transfer.moved_at = self._clock.monotonic()
        if transfer.expectation.verifies:
            self._settle(transfer)
        elif transfer.has_all_bytes and transfer.has_landed:
            self._end(transfer, Outcome(state=OutcomeState.DONE, landed_pages=transfer.landed_pages))

    def corrupt(self, arrival: Arrival) -> None:
        """The arrival's bytes are not what was sent. Whatever they were written to must be read by nobody."""
        self._take_back(arrival)
        transfer = self._transfers.get(arrival.transfer.reservation)
        is_current = transfer is not None and transfer.id == arrival.transfer
        self.mismatch(transfer if is_current else None, arrival.pair, arrival.run)

    def mismatch(self, transfer: InboundTransfer | None, pair: Pair, run: PageRun) -> None:
        """A run does not fit its digests. None: it was a probe's, or its transfer gave way to another."""
        self._counters.incidents["digest_mismatch"] += 1
        request = None if transfer is None else transfer.expectation.request
        _LOG.warning("digest_mismatch", pair=str(pair), channel=pair.channel, request=request, pages=str(run))
        if transfer is not None:
            message = f"{transfer.id}: pages {run} do not match their digests"
            self.fail(transfer, Reason.DIGEST_MISMATCH, message)

    def dropped(self, arrival: Arrival, trouble: BatonError | None = None) -> None:
        """The sink did not use it, or could not: a transfer that waited for it fails."""
        self._take_back(arrival)
        transfer = self._transfers.get(arrival.transfer.reservation)
        if transfer is not None and transfer.id == arrival.transfer:
            reason = Reason.CANCELLED if trouble is None else trouble.reason
            why = "were not wanted any more" if trouble is None else f"did not land: {trouble.message}"
            self.fail(transfer, reason, f"pages {arrival.run} {why}")

    def fail(self, transfer: InboundTransfer, reason: Reason, message: str) -> None:
        """Ends a running transfer as FAILED and tells its sink. No effect on any other."""
        if transfer.is_running:
            outcome = Outcome(
                state=OutcomeState.FAILED, reason=reason, message=message, landed_pages=transfer.landed_pages
            )
            self._end(transfer, outcome)
            transfer.sink.on_failed(transfer.id, outcome)

    def fail_pair(self, pair: Pair, message: str) -> None:
        """Every transfer that still needs bytes over `pair` fails; those that only land go on."""
        for transfer in tuple(self._transfers.values()):
            if transfer.pair == pair and not transfer.has_all_bytes:
                self.fail(transfer, Reason.CHANNEL_BROKEN, message)

    def is_fed_by(self, pair: Pair) -> bool:
        return any(t.is_running and t.pair == pair and not t.has_all_bytes for t in self._transfers.values())

    def expire(self) -> None:
        """Ends transfers in which nothing moved for too long. Called on a timer of its own."""
        now = self._clock.monotonic()
        for transfer in tuple(self._transfers.values()):
            if transfer.outcome.is_terminal or now - transfer.moved_at <= self._patience_s(transfer):
                continue
            message = f"{transfer.id.reservation}: nothing moved for {now - transfer.moved_at:.1f} s"
            outcome = Outcome(
                state=OutcomeState.EXPIRED,
                reason=Reason.TRANSFER_TIMEOUT,
                message=message,
                landed_pages=transfer.landed_pages,
            )
            self._end(transfer, outcome)
            transfer.sink.on_failed(transfer.id, outcome)

    def _patience_s(self, transfer: InboundTransfer) -> float:
        if transfer.state is not InboundState.EXPECTED:
            return self._limits.idle_timeout_s
        must_begin_s = transfer.expectation.must_begin_s
        return math.inf if must_begin_s is None else must_begin_s

    def abort(self, ref: TransferRef, reason: Reason) -> None:
        """The sender gives up. Idempotent; a word about another attempt or from another incarnation ends nothing."""
        transfer = self._transfers.get(ref.transfer.reservation)
        if transfer is None or transfer.id != ref.transfer or transfer.pair is None or transfer.has_all_bytes:
            return
        if transfer.pair.sender.epoch == ref.sender_epoch:
            self.fail(transfer, reason, f"{ref}: given up by its sender")

    async def wait_outcome(self, ref: TransferRef, wait_s: float) -> Outcome:
        """The attempt's outcome, waited for at most `wait_s`. Raises Fenced for another incarnation, NotFound."""
        if ref.receiver_epoch != self._me.epoch:
            raise Fenced(message=f"{ref} is for another incarnation of {self._me.worker}")
        if (past := self._outcomes.get(ref.transfer)) is not None:
            return past
        transfer = self._known(ref)
        if transfer.id != ref.transfer:
            raise Fenced(message=f"{ref} is over or not known yet: attempt {transfer.id.attempt} is expected")
        if not await wait_set(transfer.ended, wait_s):
            return Outcome(state=OutcomeState.PENDING, landed_pages=transfer.landed_pages)
        return transfer.outcome

    def _known(self, ref: TransferRef) -> InboundTransfer:
        if (transfer := self._transfers.get(ref.transfer.reservation)) is None:
            message = f"no reservation {ref.transfer.reservation} at {self._me.worker}"
            raise NotFound(message=message, reason=Reason.RESERVATION_NOT_FOUND)
        return transfer

    def _settle(self, transfer: InboundTransfer) -> None:
        """Once all bytes are verified the finale follows; with nothing left to land that is the end."""
        if not transfer.is_verified:
            return
        assert transfer.finale is not None
        transfer.sink.on_finale(transfer.id, transfer.finale)
        if transfer.is_running and transfer.has_landed:
            self._end(transfer, Outcome(state=OutcomeState.DONE, landed_pages=transfer.landed_pages))

    def _close(self, transfer: InboundTransfer, message: str) -> None:
        """Ended by its owner, who needs no telling."""
        outcome = Outcome(
            state=OutcomeState.FAILED,
            reason=Reason.CANCELLED,
            message=f"{transfer.id.reservation} attempt {transfer.id.attempt}: {message}",
            landed_pages=transfer.landed_pages,
        )
        if not transfer.outcome.is_terminal:
            self._end(transfer, outcome)

    def _end(self, transfer: InboundTransfer, outcome: Outcome) -> None:
        """The one place where a transfer ends."""
        assert not transfer.outcome.is_terminal, f"{transfer.id} ended twice: {transfer.outcome}, {outcome}"
        if transfer.is_running:
            assert transfer.pair is not None, f"{transfer.id} runs over no pair"
            self._counters.of(transfer.pair.channel).end(outcome)
        transfer.outcome = outcome
        transfer.state = InboundState(outcome.state.value)
        transfer.ended.set()
        self._outcomes[transfer.id] = outcome
        if len(self._outcomes) > self._limits.max_outcomes:
            self._outcomes.popitem(last=False)

    def _take_back(self, arrival: Arrival) -> None:
        assert arrival in self._lent, f"{arrival.transfer} {arrival.run} came back twice"
        self._lent.discard(arrival)
        arrival.staging.release()
