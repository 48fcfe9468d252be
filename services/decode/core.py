"""The decode worker's heart: one object, driven by the step loop alone.

Each turn: expire -> land a slice -> adopt what is complete -> admit the waiting -> one step -> emit tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from common.core.clock import Clock
from common.core.errors import (
    AlreadyExists,
    Cancelled,
    ContextLengthExceeded,
    Fenced,
    NotFound,
    Reason,
    Refused,
)
from common.core.events import StationReached, WorkEvent, WorkFailed
from common.core.ids import RequestId, ReservationId, RouterRef, SequenceId, TokenId
from common.core.request import Work
from common.core.worker import LoadReport, Role
from common.engine.batch import Batch, BatchOutcome, Drawn
from common.engine.look import Look
from common.engine.plan import BatchPlan
from common.engine.telling import Outgoing, Owned, Stepped, prefill_done, tokens_emitted
from common.engine.tombstones import Tombstones
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain
from common.kv.layout import PageLayout
from common.observe.lifetime import Station
from services.decode.budget import ExtendBudget
from services.decode.landing import Landing, LandingStrip
from services.decode.messages import DecodeEvent, ReservationClosed, RunLanded
from services.decode.reservations import Promise, Reservation, Reservations
from services.decode.scheduler import DecodeLimits, plan_admission, plan_step


@dataclass(slots=True)
class DecodeCounters:
    """Since start. Writer: the core. The first three tell prompt work apart from what decode is for."""

    local_prompt_tokens: int = 0
    recomputed_tokens: int = 0
    decoded_tokens: int = 0
    preemptions: int = 0
    deferred_rows: int = 0
    failed_rows: int = 0
    received_tokens: int = 0
    landed_bytes: int = 0
    promises: int = 0
    promises_refused: int = 0
    promises_filled: int = 0
    promises_released: int = 0
    promises_expired: int = 0
    aborted: int = 0
    stale_frames: int = 0
    finished: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseLimits:
    """`overcommit`: how many times the pool the worst cases of all admitted sequences may add up to.

    `lease_s` without a frame or a renewal ends a promise, so that a router that forgot it cannot hold pages for ever.
    """

    overcommit: float
    lease_s: float


class DecodeCore:
    """Writer of the batch, the cache, the reservations and the landings. Every method runs on the step loop."""

    def __init__(
        self,
        *,
        batch: Batch,
        cache: PageCache,
        layout: PageLayout,
        strip: LandingStrip,
        limits: DecodeLimits,
        budget: ExtendBudget,
        promises: PromiseLimits,
        clock: Clock,
        mint: Callable[[], ReservationId],
    ) -> None:
        self._batch = batch
        self._cache = cache
        self._layout = layout
        self._strip = strip
        self._limits = limits
        self._budget = budget
        self._promises = promises
        self._clock = clock
        self._mint = mint
        self._reservations = Reservations()
        self._active: dict[SequenceId, None] = {}
        self._waiting: dict[SequenceId, None] = {}
        self._tombstones = Tombstones()
        self._events: list[DecodeEvent] = []
        self._last_step = BatchOutcome()
        self._steps = 0
        self.counters = DecodeCounters()

    # Commands

    def reserve(self, work: Work) -> Promise:
        """Promise pages for a context that another worker computes. Idempotent per (request, attempt).

        Raises Refused(NO_PAGES) when pages or sequences are short, ContextLengthExceeded when it can never fit.
        """
        for standing in self._reservations:
            if standing.work.request == work.request and standing.work.attempt == work.attempt:
                return standing.promise
        self._check_admissible(work)
        chain = PrefixChain(scope=work.cache_scope, layout=self._layout)
        chain.extend(work.context)
        held = self._cache.match(chain.hashes, work.context)
        total = self._layout.pages_for(len(work.context))
        promised = self._cache.promise(total - len(held))
        if promised is None:
            self._cache.release(held)
            raise self._refusal(f"{total - len(held)} pages wanted, {self._cache.available()} available")
        now = self._clock.monotonic()
        reservation = Reservation(
            id=self._mint(),
            work=work,
            pages=(*held, *promised),
            held=len(held),
            made_at=now,
            touched_at=now,
        )
        self._reservations.add(reservation)
        self.counters.promises += 1
        self._station(work, Station.RESERVED, pages=total, held_pages=len(held))
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
            found.first_tokens = None
        found.touched_at = self._clock.monotonic()
        return found.promise

    def start_local(self, work: Work) -> None:
        """Read the prompt here, as the router decided. Idempotent per (request, attempt)."""
        first = SequenceId(work.request, work.choices[0].index)
        if first in self._batch and self._batch[first].work.attempt == work.attempt:
            return
        self._check_admissible(work)
        self._waiting[self._batch.add(work, arrived=self._clock.monotonic())] = None

    def land(self, reservation: ReservationId, attempt: int, first_page: int, num_pages: int, data: memoryview) -> None:
        """Queue verified bytes for landing. RunLanded tells when the staging is free, whatever became of the run."""
        found = self._current(reservation, attempt)
        if found is None:
            self._events.append(_landed(reservation, attempt, first_page, num_pages, is_accepted=False))
            return
        wanted = [page for page in range(first_page, first_page + num_pages) if page not in found.landed]
        assert len(wanted) in (0, num_pages), f"{reservation}: pages {first_page}+{num_pages} landed in part"
        if not wanted:
            self._events.append(_landed(reservation, attempt, first_page, num_pages, is_accepted=True))
            return
        pages = found.pages[first_page : first_page + num_pages]
        self._strip.add(
            Landing(reservation=reservation, attempt=attempt, first_page=first_page, pages=pages, data=data)
        )

    def complete(self, reservation: ReservationId, attempt: int, first_tokens: Mapping[int, TokenId]) -> None:
        """Prefill's first tokens, one per choice. The sequences begin as soon as every page has landed."""
        found = self._current(reservation, attempt)
        if found is not None:
            found.first_tokens = dict(first_tokens)

    def _current(self, reservation: ReservationId, attempt: int) -> Reservation | None:
        """The promise that a frame is meant for, or None, counted, when the frame is of the past."""
        try:
            found = self._reservations.find(reservation, attempt)
        except (NotFound, Fenced):
            self.counters.stale_frames += 1
            return None
        found.touched_at = self._clock.monotonic()
        return found

    def cancel(self, request: RequestId, attempt: int) -> None:
        """Give up a request's attempts up to this one, and remember it: a late start stays refused."""
        self._tombstones.add(request, attempt)
        self._give_up(lambda work: work.request == request and work.attempt <= attempt)

    def cancel_router(self, router: RouterRef) -> None:
        """The router is gone: nobody reads its tokens."""
        self._give_up(lambda work: work.router == router)

    def _give_up(self, is_meant: Callable[[Work], bool]) -> None:
        for reservation in self._reservations:
            if is_meant(reservation.work):
                self._close(reservation, is_adopted=False)
                self.counters.aborted += 1
                self.counters.promises_released += 1
        for sequence in (*self._active, *self._waiting):
            if is_meant(self._batch[sequence].work):
                self._remove(sequence)
                self.counters.aborted += 1

    def _check_admissible(self, work: Work) -> None:
        if self._tombstones.covers(work.request, work.attempt):
            raise Cancelled(message=f"{work.request} attempt {work.attempt} was cancelled before it arrived")
        for choice in work.choices:
            if SequenceId(work.request, choice.index) in self._batch:
                raise AlreadyExists(message=f"{work.request}/{choice.index} runs here under another attempt")
        worst = self._worst_pages(work)
        total = self._cache.counts().total
        if worst > total:
            raise ContextLengthExceeded(
                message=f"{work.request} may need {worst} pages, this worker has {total}: lower max_tokens or n"
            )
        admitted = sum(self._worst_pages(reservation.work) for reservation in self._reservations)
        admitted += sum(self._worst_pages(self._batch[held].work, 1) for held in (*self._active, *self._waiting))
        preempted = sum(self._batch[sequence].num_preemptions > 0 for sequence in self._waiting)
        if preempted:
            raise self._refusal(f"{preempted} preempted sequences wait for pages already")
        if admitted + worst > total * self._promises.overcommit:
            raise self._refusal(f"worst case {admitted + worst} pages exceeds {self._promises.overcommit} x {total}")
        sequences = len(self._active) + sum(len(r.work.choices) for r in self._reservations) + len(work.choices)
        if sequences > self._limits.max_sequences:
            raise self._refusal(f"{sequences} sequences wanted, the limit is {self._limits.max_sequences}")

    def _worst_pages(self, work: Work, choices: int | None = None) -> int:
        length = len(work.prompt) + work.sampling.max_tokens
        return self._layout.pages_for(length) * (choices or len(work.choices))

    def _refusal(self, why: str) -> Refused:
        self.counters.promises_refused += 1
        return Refused(message=f"no room: {why}", reason=Reason.NO_PAGES, retry_after_s=0.1, quota_subject="pages")

    # One turn

    def advance(self) -> bool:
        now = self._clock.monotonic()
        self._expire(now)
        landed = self._land_slice()
        adopted = self._adopt_complete()
        stepped = self._step()
        return landed or adopted or stepped

    def take_events(self) -> tuple[DecodeEvent, ...]:
        changes = self._cache.drain_changes()
        if not changes.is_empty:
            self._events.append(Owned(changes=changes))
        events, self._events = tuple(self._events), []
        return events

    def _expire(self, now: float) -> None:
        for reservation in self._reservations:
            late = now >= reservation.work.deadline
            if late or now >= reservation.touched_at + self._promises.lease_s:
                self.counters.promises_expired += 1
                reason = Reason.DEADLINE_EXCEEDED if late else Reason.RESERVATION_NOT_FOUND
                self._fail(reservation.work, reason, f"the promise {reservation.id} expired")
                self._close(reservation, is_adopted=False)
        for sequence in (*self._active, *self._waiting):
            work = self._batch[sequence].work
            if now >= work.deadline:
                self._fail(work, Reason.DEADLINE_EXCEEDED, f"{sequence} ran out of time")
                self._remove(sequence)

    def _land_slice(self) -> bool:
        if not len(self._strip):
            return False
        finished = self._strip.advance()
        self.counters.landed_bytes = self._strip.landed_bytes
        for landing in finished:
            reservation = self._reservations.find(landing.reservation, landing.attempt)
            reservation.landed.update(range(landing.first_page, landing.first_page + len(landing.pages)))
            self._station(reservation.work, Station.CHUNK_LANDED, pages=len(landing.pages))
            self._events.append(
                _landed(landing.reservation, landing.attempt, landing.first_page, len(landing.pages), is_accepted=True)
            )
        return True

    def _adopt_complete(self) -> bool:
        complete = [reservation for reservation in self._reservations if reservation.is_complete]
        for reservation in complete:
            assert reservation.first_tokens is not None
            work = reservation.work
            self._station(work, Station.VERIFIED, pages=len(reservation.pages) - reservation.held)
            self._close(reservation, is_adopted=True)
            self._cache.fulfil(reservation.pages[reservation.held :])
            drawn = self._batch.adopt(
                work,
                reservation.pages,
                reservation.first_tokens,
                arrived=reservation.made_at,
                held=reservation.held,
            )
            self.counters.promises_filled += 1
            self.counters.received_tokens += (len(reservation.pages) - reservation.held) * self._layout.page_size
            self._emit(drawn)
            self._station(work, Station.RUNNING)
        return bool(complete)

    def _step(self) -> bool:
        self._admit()
        active = tuple(self._batch.view(sequence) for sequence in self._active)
        limits = replace(self._limits, extend_tokens=self._budget.tokens)
        plan = plan_step(active, available_pages=self._cache.available(), limits=limits)
        if plan.is_empty:
            return False
        outcome = self._batch.run(plan)
        self._steps += 1
        self._last_step = outcome
        stepped = Stepped(num_rows=len(outcome.extended), num_tokens=outcome.num_tokens, seconds=outcome.seconds)
        self._events.append(stepped)
        self._count(plan, outcome)
        for sequence in outcome.preempted:
            self.counters.preemptions += 1
            del self._active[sequence]
            self._waiting[sequence] = None
            self._station(self._batch[sequence].work, Station.PREEMPTED)
        for sequence in outcome.failed:
            self.counters.failed_rows += 1
            self._fail(self._batch[sequence].work, Reason.INTERNAL, f"the step failed for {sequence}")
            self._remove(sequence)
        for draw in outcome.drawn:
            if draw.index == draw.work.first_index and draw.choice == draw.work.choices[0]:
                self._tell(draw.work, prefill_done(draw.work, self._batch[draw.source].num_cached))
        self._emit(outcome.drawn)
        return bool(outcome.extended or outcome.preempted or outcome.failed)

    def _count(self, plan: BatchPlan, outcome: BatchOutcome) -> None:
        done = frozenset(outcome.extended)
        for extend in plan.extend:
            if extend.sequence in done and self._batch[extend.sequence].num_preemptions:
                self.counters.recomputed_tokens += extend.num_tokens
            elif extend.sequence in done:
                self.counters.local_prompt_tokens += extend.num_tokens
        num_decoding = len(done.intersection(plan.decode))
        self.counters.decoded_tokens += num_decoding
        self._budget.observe(
            num_decoding=num_decoding, num_extended=outcome.num_tokens - num_decoding, seconds=outcome.seconds
        )
        self.counters.deferred_rows += len(outcome.deferred)

    def _admit(self) -> None:
        waiting = tuple(self._batch.view(sequence) for sequence in self._waiting)
        admitted = plan_admission(
            waiting, num_active=len(self._active), available_pages=self._cache.available(), limits=self._limits
        )
        for sequence in admitted:
            del self._waiting[sequence]
            self._batch.begin(sequence)
            self._active[sequence] = None

    def _emit(self, drawn: tuple[Drawn, ...]) -> None:
        """Tell the routers what was drawn and let the batch go on with it."""
        for draw in drawn:
            self._active.pop(draw.source, None)
            self._tell(draw.work, tokens_emitted(draw))
        self._batch.proceed(drawn)
        for draw in drawn:
            if draw.finish is None:
                self._active[draw.sequence] = None
            else:
                self.counters.finished += 1

    # Leaving

    def _close(self, reservation: Reservation, *, is_adopted: bool) -> None:
        self._drop_landings(reservation)
        self._reservations.remove(reservation.id)
        if not is_adopted:
            self._cache.release(reservation.pages)
        self._events.append(ReservationClosed(reservation=reservation.id, is_adopted=is_adopted))

    def _drop_landings(self, reservation: Reservation) -> None:
        for landing in self._strip.drop(reservation.id):
            count = len(landing.pages)
            self._events.append(
                _landed(landing.reservation, landing.attempt, landing.first_page, count, is_accepted=False)
            )

    def _remove(self, sequence: SequenceId) -> None:
        self._active.pop(sequence, None)
        self._waiting.pop(sequence, None)
        self._batch.retire(sequence)

    # Telling

    def _tell(self, work: Work, event: WorkEvent) -> None:
        self._events.append(Outgoing(router=work.router, event=event))

    def _fail(self, work: Work, reason: Reason, message: str) -> None:
        self._tell(
            work,
            WorkFailed(request=work.request, attempt=work.attempt, role=Role.DECODE, reason=reason, message=message),
        )

    def _station(self, work: Work, name: Station, **facts: float) -> None:
        at = self._clock.monotonic()
        self._tell(work, StationReached(request=work.request, attempt=work.attempt, name=name, at=at, facts=facts))

    # Looking

    def look(self) -> Look:
        """A snapshot between two turns."""
        counters = {**asdict(self.counters), **asdict(self._cache.counters())}
        return Look(load=self._load(), counters=counters)

    def _load(self) -> LoadReport:
        outcome = self._last_step
        return LoadReport(
            pages=self._cache.counts(),
            waiting_requests=len(self._waiting) + len(self._reservations),
            waiting_tokens=sum(self._batch[sequence].num_pending for sequence in self._waiting),
            running_sequences=len(self._active),
            step_seconds=outcome.seconds,
            step_batch=len(outcome.extended),
            steps=self._steps,
        )


def _landed(
    reservation: ReservationId, attempt: int, first_page: int, num_pages: int, *, is_accepted: bool
) -> RunLanded:
    return RunLanded(
        reservation=reservation,
        attempt=attempt,
        first_page=first_page,
        num_pages=num_pages,
        is_accepted=is_accepted,
    )
