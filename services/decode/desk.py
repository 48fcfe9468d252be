"""The desk where pages are promised, landed and handed over: everything about a prompt that another worker computes."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from common.core.clock import Clock
from common.core.errors import Fenced, NotFound, Reason, Refused
from common.core.ids import PageRef, ReservationId
from common.core.request import Work
from common.engine.rule import TokenRule
from common.engine.telling import Teller
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain
from common.kv.layout import PageLayout
from common.observe.lifetime import Station
from common.transfer.claims import LayerClaims
from common.transfer.messages import PageRun
from common.worker.permit import PagesLanded, Permit
from services.decode.counters import DecodeCounters
from services.decode.messages import ReservationClosed, RoleEvent
from services.decode.reservations import Opening, Promise, Reservation, Reservations


class PromiseDesk:
    """Writer of the reservations, and of the pool for whoever lands in their pages. Owner: the decode core.

    `lease_s` without a frame or a renewal ends a promise, so that a router that forgot it cannot hold pages for ever.
    """

    def __init__(
        self,
        *,
        cache: PageCache,
        layout: PageLayout,
        lease_s: float,
        teller: Teller[RoleEvent],
        counters: DecodeCounters,
        clock: Clock,
        mint: Callable[[], ReservationId],
    ) -> None:
        self._cache = cache
        self._layout = layout
        self._lease_s = lease_s
        self._teller = teller
        self._counters = counters
        self._clock = clock
        self._mint = mint
        self._reservations = Reservations()

    def __len__(self) -> int:
        return len(self._reservations)

    def works(self) -> tuple[Work, ...]:
        """What is promised, in order."""
        return tuple(reservation.work for reservation in self._reservations)

    def standing(self, work: Work) -> Promise | None:
        """The promise made for this very attempt before, if it stands."""
        for reservation in self._reservations:
            if reservation.work.request == work.request and reservation.attempt == work.attempt:
                return reservation.promise
        return None

    def promise(self, work: Work, rule: TokenRule | None = None) -> Promise:
        """Set pages aside; what the cache holds of the prompt already counts. Raises Refused(NO_PAGES)."""
        chain = PrefixChain(scope=work.cache_scope, layout=self._layout)
        chain.extend(work.context)
        held = self._cache.match(chain.hashes, work.context)
        wanted = self._layout.pages_for(len(work.context)) - len(held)
        promised = self._cache.promise(wanted)
        if promised is None:
            self._cache.release(held)
            self._counters.promises_refused += 1
            raise no_pages(f"{wanted} pages wanted, {self._cache.available()} available")
        now = self._clock.monotonic()
        name = self._mint()
        reservation = Reservation(
            id=name,
            work=work,
            pages=(*held, *promised),
            held=len(held),
            permit=self._permit(name, work.attempt, len(held), promised),
            landed=LayerClaims(self._layout.num_layers),
            made_at=now,
            touched_at=now,
            rule=rule,
        )
        self._reservations.add(reservation)
        self._counters.promises += 1
        self._teller.station(work, Station.RESERVED, pages=len(reservation.pages), held_pages=len(held))
        return reservation.promise

    def renew(self, reservation: ReservationId, attempt: int) -> Promise:
        """Point a promise at a newer attempt: what landed for the older one is void. Raises NotFound, Fenced."""
        found = self._reservations.get(reservation)
        if found is None or attempt < found.attempt:
            found = self._reservations.find(reservation, attempt)
        if attempt > found.attempt:
            self._revoke(found.permit)
            found.work = replace(found.work, attempt=attempt)
            found.permit = self._permit(found.id, attempt, found.held, found.pages[found.held :])
            found.landed.clear()
            found.opening = None
        found.touched_at = self._clock.monotonic()
        return found.promise

    def landed(self, landed: PagesLanded) -> None:
        """Bytes are in their pages. They count for the attempt that they were sent for."""
        found = self._current(landed.reservation, landed.attempt)
        if found is None:
            return
        found.landed.add(landed.pages)
        self._counters.landed_bytes += landed.pages.num_pages * self._layout.part_bytes(landed.pages.layers)
        if landed.whole_run is not None and _is_last(landed.whole_run, self._layout.num_layers):
            self._teller.station(found.work, Station.CHUNK_LANDED, pages=landed.whole_run.num_pages)

    def left(self, permit: Permit) -> None:
        """A copy has ended whose permit was revoked under it: its pages may go now."""
        self._cache.end_write(permit.pages)

    def complete(self, reservation: ReservationId, attempt: int, opening: Opening) -> None:
        """What prefill drew, one token per choice: with every page landed, the promise is kept."""
        found = self._current(reservation, attempt)
        if found is None:
            return
        wanted = {choice.index for choice in found.work.choices}
        if set(opening.first_tokens) != wanted:
            why = f"first tokens of choices {sorted(opening.first_tokens)[:8]}, promised are {sorted(wanted)[:8]}"
            self._teller.fail(found.work, Reason.TRANSFER_FAILED, f"{reservation}: {why}")
            self._release(found)
            return
        found.opening = opening

    def _current(self, reservation: ReservationId, attempt: int) -> Reservation | None:
        """The promise that a frame is meant for, or None, counted, when the frame is of the past."""
        try:
            found = self._reservations.find(reservation, attempt)
        except (NotFound, Fenced):
            self._counters.stale_frames += 1
            return None
        found.touched_at = self._clock.monotonic()
        return found

    # One turn

    def take_kept(self) -> tuple[Reservation, ...]:
        """Promises that are kept now. Their pages are content; the caller's references move out of the desk."""
        num_layers = self._layout.num_layers
        kept = tuple(each for each in self._reservations if each.is_complete(num_layers))
        for reservation in kept:
            received = reservation.pages[reservation.held :]
            self._close(reservation, is_adopted=True)
            self._cache.fulfil(received)
            self._counters.promises_filled += 1
            self._counters.received_tokens += len(received) * self._layout.page_size
            self._teller.station(reservation.work, Station.VERIFIED, pages=len(received))
        return kept

    def expire(self, now: float) -> None:
        """End promises whose request is late, or that nobody touched for a lease."""
        for reservation in self._reservations:
            is_late = now >= reservation.work.deadline
            if is_late or now >= reservation.touched_at + self._lease_s:
                reason = Reason.DEADLINE_EXCEEDED if is_late else Reason.RESERVATION_NOT_FOUND
                self._counters.promises_expired += 1
                self._teller.fail(reservation.work, reason, f"the promise {reservation.id} expired")
                self._release(reservation)

    def give_up(self, is_meant: Callable[[Work], bool]) -> int:
        """Release the promises of cancelled work; how many there were."""
        meant = [reservation for reservation in self._reservations if is_meant(reservation.work)]
        for reservation in meant:
            self._counters.promises_released += 1
            self._release(reservation)
        return len(meant)

    def fail_all(self, reason: Reason, message: str) -> int:
        """Give every promise up, and tell; how many there were."""
        left = tuple(self._reservations)
        for reservation in left:
            self._counters.promises_released += 1
            self._teller.fail(reservation.work, reason, message)
            self._release(reservation)
        return len(left)

    def _release(self, reservation: Reservation) -> None:
        self._close(reservation, is_adopted=False)
        self._cache.release(reservation.pages)

    def _close(self, reservation: Reservation, *, is_adopted: bool) -> None:
        self._revoke(reservation.permit)
        self._reservations.remove(reservation.id)
        self._teller.say(ReservationClosed(reservation=reservation.id, is_adopted=is_adopted))

    def _permit(self, reservation: ReservationId, attempt: int, held: int, pages: Sequence[PageRef]) -> Permit:
        self._cache.begin_write(pages)
        return Permit(reservation=reservation, attempt=attempt, first_page=held, pages=pages)

    def _revoke(self, permit: Permit) -> None:
        """Nothing of this attempt lands any more. A copy that is under way ends first: `left`."""
        if permit.revoke():
            self._cache.end_write(permit.pages)


def _is_last(run: PageRun, num_layers: int) -> bool:
    """Senders begin with the lowest layers: with these its pages are whole."""
    return run.layers is None or run.layers.end == num_layers


def no_pages(why: str) -> Refused:
    """This worker has no room now; another may, and this one soon."""
    return Refused(message=f"no room: {why}", reason=Reason.NO_PAGES, retry_after_s=0.1, quota_subject="pages")
