"""The desk where pages are promised, landed and handed over: everything about a prompt that another worker computes."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from common.core.clock import Clock
from common.core.errors import Fenced, NotFound, Reason, Refused
from common.core.ids import ReservationId
from common.core.request import Work
from common.engine.rule import TokenRule
from common.engine.telling import Teller
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain
from common.kv.layout import PageLayout
from common.observe.lifetime import Station
from services.decode.counters import DecodeCounters
from services.decode.landing import Landing, LandingStrip
from services.decode.messages import ReservationClosed, RoleEvent, RunLanded
from services.decode.reservations import Opening, Promise, Reservation, Reservations


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Verified bytes of one run, as a transfer brought them."""

    reservation: ReservationId
    attempt: int
    first_page: int
    num_pages: int
    data: memoryview

    def landed(self, *, is_accepted: bool) -> RunLanded:
        return RunLanded(
            reservation=self.reservation,
            attempt=self.attempt,
            first_page=self.first_page,
            num_pages=self.num_pages,
            is_accepted=is_accepted,
        )


class PromiseDesk:
    """Writer of the reservations and the landing strip. Owner: the decode core.

    `lease_s` without a frame or a renewal ends a promise, so that a router that forgot it cannot hold pages for ever.
    """

    def __init__(
        self,
        *,
        cache: PageCache,
        layout: PageLayout,
        strip: LandingStrip,
        lease_s: float,
        teller: Teller[RoleEvent],
        counters: DecodeCounters,
        clock: Clock,
        mint: Callable[[], ReservationId],
    ) -> None:
        self._cache = cache
        self._layout = layout
        self._strip = strip
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
        reservation = Reservation(
            id=self._mint(),
            work=work,
            pages=(*held, *promised),
            held=len(held),
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
            self._drop_landings(found)
            found.work = replace(found.work, attempt=attempt)
            found.landed.clear()
            found.opening = None
        found.touched_at = self._clock.monotonic()
        return found.promise

    def land(self, frame: Frame) -> None:
        """Queue verified bytes. RunLanded tells when their staging is free, whatever became of them."""
        found = self._current(frame.reservation, frame.attempt)
        if found is None:
            self._teller.say(frame.landed(is_accepted=False))
            return
        pages = range(frame.first_page, frame.first_page + frame.num_pages)
        wanted = [page for page in pages if page not in found.landed]
        assert len(wanted) in (0, frame.num_pages), f"{frame.reservation}: pages {pages} landed in part"
        if not wanted:
            self._teller.say(frame.landed(is_accepted=True))
            return
        self._strip.add(
            Landing(
                reservation=frame.reservation,
                attempt=frame.attempt,
                first_page=frame.first_page,
                pages=found.pages[pages.start : pages.stop],
                data=frame.data,
            )
        )

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

    def land_slice(self, step_s: float | None) -> bool:
        """Copy a slice of what waits, beside a step that takes `step_s` (None: no step). False when nothing did."""
        if not len(self._strip):
            return False
        finished = self._strip.advance(step_s)
        self._counters.landed_bytes = self._strip.landed_bytes
        for landing in finished:
            reservation = self._reservations.find(landing.reservation, landing.attempt)
            reservation.landed.update(range(landing.first_page, landing.first_page + len(landing.pages)))
            self._teller.station(reservation.work, Station.CHUNK_LANDED, pages=len(landing.pages))
            self._teller.say(_run_landed(landing, is_accepted=True))
        return True

    def take_kept(self) -> tuple[Reservation, ...]:
        """Promises that are kept now. Their pages are content; the caller's references move out of the desk."""
        kept = tuple(reservation for reservation in self._reservations if reservation.is_complete)
        for reservation in kept:
            received = reservation.pages[reservation.held :]
            self._cache.fulfil(received)
            self._counters.promises_filled += 1
            self._counters.received_tokens += len(received) * self._layout.page_size
            self._teller.station(reservation.work, Station.VERIFIED, pages=len(received))
            self._close(reservation, is_adopted=True)
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
        self._drop_landings(reservation)
        self._reservations.remove(reservation.id)
        self._teller.say(ReservationClosed(reservation=reservation.id, is_adopted=is_adopted))

    def _drop_landings(self, reservation: Reservation) -> None:
        for landing in self._strip.drop(reservation.id):
            self._teller.say(_run_landed(landing, is_accepted=False))


def no_pages(why: str) -> Refused:
    """This worker has no room now; another may, and this one soon."""
    return Refused(message=f"no room: {why}", reason=Reason.NO_PAGES, retry_after_s=0.1, quota_subject="pages")


def _run_landed(landing: Landing, *, is_accepted: bool) -> RunLanded:
    return RunLanded(
        reservation=landing.reservation,
        attempt=landing.attempt,
        first_page=landing.first_page,
        num_pages=len(landing.pages),
        is_accepted=is_accepted,
    )
