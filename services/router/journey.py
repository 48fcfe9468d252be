"""The life of one request: leg after leg until every choice is finished, or the one reason why not.

    waiting for a turn -> leg -> finished
         ^                 | |  ^
         |                 | '--'  handed over: its worker drains, each choice carries on elsewhere, in the same turn
         |                 | broken
         '-- recover ------'   refused: wait again     lost: move        failed, poison: another worker, within budget
                               paused: wait for the reader

A leg that broke after tokens came is continued, not repeated: what the client has becomes context, indices go on.
Choices that diverged continue each as a work of its own.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from common.config.sections.admission import AdmissionSection
from common.core.aftermath import kept
from common.core.errors import (
    BatonError,
    Cancelled,
    ContextLengthExceeded,
    DeadlineExceeded,
    FieldViolation,
    InternalError,
    Reason,
    Refused,
    Unavailable,
)
from common.core.ids import RequestId, RouterRef
from common.core.request import Choice, Priority, TokenSampling, Work
from common.observe.lifetime import Station
from services.router.admission.admission import Admission
from services.router.admission.ticket import Ticket
from services.router.classify import Facts, classify
from services.router.record import Record
from services.router.relay import Relay, first_of
from services.router.request import Request
from services.router.request_class import Reading, RequestClass, Size, Targets, request_class, targets_of
from services.router.setback import LegBroken, Setback
from services.router.stream import RequestStream
from services.router.track import Track
from services.router.trouble import Trouble

RETRY_S = 1.0
"""Chosen: another router serves at once; this one's successor after about as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneySettings:
    """How much one request may cost. `slow_reader_s`: how long a full buffer is waited for."""

    max_attempts: int = 4
    slow_reader_s: float = 30.0
    short_tokens: int = 128
    targets: Mapping[Priority, Targets] = field(default_factory=lambda: targets_of(AdmissionSection()))


class Journey:
    """Owner: the handler of the client's call, whose TaskGroup `run` lives in."""

    def __init__(
        self,
        *,
        request: Request,
        name: RequestId,
        router: RouterRef,
        track: Track,
        admission: Admission,
        stream: RequestStream,
        record: Record,
        settings: JourneySettings,
    ) -> None:
        self.request = request
        self.stream = stream
        self.record = record
        self.error: BatonError | None = None
        self._name = name
        self._router = router
        self._track = track
        self._admission = admission
        self._settings = settings
        self._trouble = Trouble(request=request.id, max_attempts=settings.max_attempts)
        self._num_works = 0
        self._reading = Reading(uncached_tokens=len(request.prompt))
        self._class = RequestClass(
            priority=request.priority, size=Size.LONG, targets=settings.targets[request.priority]
        )
        self._ended_by: BatonError | None = None
        self._limit: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Serves the request. The stream carries how it ended; raises only CancelledError, or a bug."""
        error: BatonError | None = InternalError(message=f"{self.request.id} ended without a reason")
        try:
            async with asyncio.timeout(self.request.deadline - self._track.clock.monotonic()) as self._limit:
                self._check_fits()
                self._classify()
                await self._serve(self.request.choices)
            error = None
            self._track.budget.note_success()
        except TimeoutError:
            error = self._out_of_time()
        except asyncio.CancelledError:
            error = Cancelled(message=f"{self.request.id}: the client went away")
            raise
        except BatonError as reason:
            error = kept(reason)
        finally:
            self._track.hints.forget(self.request.prompt)
            self._limit = None  # over: a cancel that comes while the client still reads has nothing to end
            self.error = error
            self.record.finish(error, num_output=self.stream.num_delivered, num_duplicates=self.stream.num_duplicates)
            self.stream.close(error)

    def _relay(self) -> Relay:
        """Made for each leg: kept here it would keep the journey, and its prompt, until somebody looks for garbage."""
        return Relay(
            track=self._track,
            stream=self.stream,
            record=self.record,
            trouble=self._trouble,
            make_work=self._work,
            recover=self._recover,
        )

    def cancel(self) -> None:
        """Ends the request from outside its call. Idempotent."""
        self._end_now(Cancelled(message=f"{self.request.id} was cancelled"))

    def cut(self) -> None:
        """The same for a request whose router leaves: whoever asks again is served elsewhere."""
        message = (
            f"{self.request.id}: its router left before the answer was over, and takes what could be resumed along: "
            "ask another router; with the same seed it is the same answer"
        )
        self._end_now(Unavailable(message=message, reason=Reason.DRAINING, retry_after_s=RETRY_S))

    def _end_now(self, error: BatonError) -> None:
        self._ended_by = self._ended_by or error
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def _serve(self, choices: Sequence[Choice]) -> None:
        """Legs for these choices, all as one work while they agree, until each is finished."""
        while pending := self.stream.unfinished(choices):
            if len(pending) > 1 and any(self.stream.emitted(choice.index) for choice in pending):
                await self._serve_apart(pending)
                return
            work = self._work(pending)
            try:
                await self._run_leg(work)
            except LegBroken as broken:
                await self._recover(broken)

    async def _serve_apart(self, choices: Sequence[Choice]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for choice in choices:
                    group.create_task(self._serve((choice,)))
        except ExceptionGroup as errors:
            expected, bugs = errors.split(BatonError)
            if bugs is not None or expected is None:
                raise
            raise first_of(expected) from None

    async def _run_leg(self, work: Work) -> None:
        self.record.mark(Station.QUEUED, attempt=work.attempt)
        before = self._num_emitted(work)
        async with self._admission.turn(self._ticket(work)) as place:
            self.record.mark(Station.ADMITTED, attempt=work.attempt)
            try:
                await self._relay().run(work, place)
            finally:
                place.generated_tokens = self._num_emitted(work) - before

    def _num_emitted(self, work: Work) -> int:
        """Tokens of the work's choices that the client has or will have."""
        return sum(len(self.stream.emitted(choice.index)) for choice in work.choices)

    async def _recover(self, broken: LegBroken) -> None:
        """Whatever must happen before the next leg. Raises the error that ends the request instead of another leg.

        From here on nobody asks where it broke: the way there has the leg, which has the error.
        """
        kept(broken)
        kept(broken.cause)
        self._trouble.note(broken, self.stream.num_delivered)
        self.record.note_setback(broken.cause)
        match broken.setback:
            case Setback.REFUSED | Setback.LOST | Setback.LEFT:
                return
            case Setback.FAILED | Setback.POISON:
                await self._track.budget.take()
            case Setback.PAUSED:
                await self._wait_reader()
            case _:
                assert_never(broken.setback)

    async def _wait_reader(self) -> None:
        try:
            async with asyncio.timeout(self._settings.slow_reader_s):
                await self.stream.wait_room()
        except TimeoutError:
            raise Refused(
                message=f"{self.request.id}: the client did not read for {self._settings.slow_reader_s:.0f} s",
                reason=Reason.SLOW_READER,
                quota_subject="stream buffer",
            ) from None

    def _work(self, choices: tuple[Choice, ...]) -> Work:
        """A new work for these choices. Its id is new as well: nothing that a worker remembers of another leg, of a
        reused request id or of another router's request with the same id, can be taken for it."""
        self._num_works += 1
        return Work(
            request=RequestId(f"{self._name}.{self._num_works}"),
            attempt=self._trouble.next_attempt(),
            prompt=self.request.prompt,
            emitted=self.stream.emitted(choices[0].index) if len(choices) == 1 else (),
            choices=choices,
            sampling=self._sampling(),
            priority=self._class.priority,
            deadline=self.request.deadline,
            cache_scope=self.request.cache_scope,
            router=self._router,
            tenant=self.request.tenant,
            constraint=self.request.constraint,
        )

    def _sampling(self) -> TokenSampling:
        """A prompt whose log probabilities are here already may come out of a cache."""
        sampling = self.request.sampling
        return sampling if self.stream.wants_scores else replace(sampling, prompt_logprobs=None)

    def _ticket(self, work: Work) -> Ticket:
        """Every leg waits with the request's own age; only the first may be turned away."""
        facts = classify(work, page_size=self._track.hints.page_size, hits={})
        has_run = work.attempt > 1
        return Ticket(
            request=work.request,
            tenant=work.tenant,
            priority=work.priority,
            arrived=self.request.received,
            deadline=work.deadline,
            num_pages=facts.num_pages,
            num_tokens=facts.context_tokens,
            uncached_tokens=facts.context_tokens if has_run else self._reading.uncached_tokens,
            max_new_tokens=work.max_new_tokens * len(work.choices),
            reading_s=0.0 if has_run else self._reading.seconds,
            has_run=has_run,
        )

    def _classify(self) -> None:
        """Once per request, as it comes in: its class does not change while it waits."""
        request, hints = self.request, self._track.hints
        facts = Facts(
            context_tokens=len(request.prompt),
            num_choices=len(request.choices),
            page_size=hints.page_size,
            hits=hints.hits(request.prompt, request.cache_scope),
        )
        self._reading = Reading.of(facts, self._track.fleet.view())
        self._class = request_class(
            request.priority,
            prompt_tokens=facts.context_tokens,
            reading=self._reading,
            short_tokens=self._settings.short_tokens,
            targets=self._settings.targets,
        )
        self.record.note_class(self._class)

    def _check_fits(self) -> None:
        """A request larger than the largest decode worker would wait for ever."""
        longest = len(self.request.prompt) + self.request.sampling.max_tokens
        needed = -(-longest // self._track.hints.page_size) * len(self.request.choices)
        largest = self._track.fleet.max_pages()
        if 0 < largest < needed:
            why = f"may need {needed} pages, the largest decode worker has {largest}: lower max_tokens or n"
            raise ContextLengthExceeded(
                message=f"{self.request.id} {why}",
                violations=(FieldViolation(field="sampling.max_tokens", description=why),),
            )

    def _out_of_time(self) -> BatonError:
        if self._ended_by is not None:
            return self._ended_by
        after_s = self._track.clock.monotonic() - self.request.received
        how_far = f"after {after_s:.3g} s, with {self.stream.num_delivered} tokens written"
        return DeadlineExceeded(message=f"{self.request.id} ran out of time {how_far}: allow more, or lower max_tokens")
