"""Every request that this router serves right now: by id, for cancellation, duplicates and drain."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from common.core.entropy import Entropy
from common.core.errors import AlreadyExists, BatonError, NotFound, Reason, Refused, Unavailable
from common.core.ids import RequestId, RouterRef, TenantId
from common.core.waiting import wait_done, wait_set
from common.observe import catalogue
from common.observe.logging import get_log
from common.observe.registry import Metrics
from common.observe.tracing.tracer import Tracer
from common.text.choice import ChoiceText
from services.router.admission.admission import Admission
from services.router.journey import RETRY_S, Journey, JourneySettings
from services.router.record import RecentRecords, Record
from services.router.replay import Replay
from services.router.request import Request
from services.router.story import story_of
from services.router.stream import RequestStream
from services.router.track import Track

TELL_S = 1.0
"""Chosen: many turns of the event loop. A client that does not read is not waited for."""

_LOG = get_log("router")


class Dispatcher:
    """Writer of the table of journeys: the event loop's thread. `run` lives in the app's TaskGroup."""

    def __init__(
        self,
        *,
        router: RouterRef,
        track: Track,
        admission: Admission,
        metrics: Metrics,
        entropy: Entropy,
        settings: JourneySettings,
        recent: RecentRecords,
        max_buffered_tokens: int,
        model: str,
        tracer: Tracer,
    ) -> None:
        self._router = router
        self._track = track
        self._admission = admission
        self._metrics = metrics
        self._entropy = entropy
        self._settings = settings
        self._recent = recent
        self._max_buffered_tokens = max_buffered_tokens
        self._model = model
        self._tracer = tracer
        self._journeys: dict[tuple[TenantId, RequestId], Journey] = {}
        """Tenants choose ids without knowing of each other."""
        self._is_draining = False
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @property
    def num_active(self) -> int:
        return len(self._journeys)

    @contextmanager
    def enter(
        self, request: Request, texts: Sequence[ChoiceText], *, replay: Replay | None = None
    ) -> Iterator[Journey]:
        """A journey, findable by its request id inside the block; the caller runs it. `replay` keeps what goes out.

        Raises AlreadyExists while another request of its tenant with this id is served here, Unavailable while
        draining. An id may be used again once its request has ended.
        """
        if (error := self._objection(request)) is not None:
            self.note_turned_away(error)
            raise error
        traced = self._tracer.begin()
        name = (request.tenant, request.id)
        journey = self._journeys[name] = self._journey(request, texts, replay)
        self._is_empty.clear()
        self._recent.add(journey.record)
        self._metrics.set(catalogue.REQUESTS_IN_FLIGHT, len(self._journeys))
        try:
            yield journey
        finally:
            del self._journeys[name]
            self._metrics.set(catalogue.REQUESTS_IN_FLIGHT, len(self._journeys))
            if not self._journeys:
                self._is_empty.set()
            _log_end(journey)
            self._tracer.end(traced, story_of(journey.record, model=self._model))

    def note_turned_away(self, error: BatonError) -> None:
        """Counts a request that never became a journey."""
        self._metrics.add(catalogue.REQUESTS_RECEIVED)
        kind = catalogue.REQUESTS_REFUSED if isinstance(error, Refused) else catalogue.REQUESTS_FAILED
        self._metrics.add(kind, reason=error.reason)

    def cancel(self, request: RequestId, tenant: TenantId) -> None:
        """Idempotent: a request that has ended is fine. Raises NotFound for one that this router never served, served
        too long ago to remember, or serves for another tenant."""
        record = self._recent.find(request)
        if (journey := self._journeys.get((tenant, request))) is not None:
            record = journey.record
        if record is None or record.request.tenant != tenant:
            raise NotFound(message=f"request {request[:128]} is not known here", reason=Reason.REQUEST_NOT_FOUND)
        if journey is not None:
            journey.cancel()

    async def run(self) -> None:
        """Gives turns to waiting requests whenever the fleet changed, until cancelled."""
        while True:
            await self._track.fleet.changed.wait()  # bounded: ends with the app's TaskGroup
            self._track.fleet.changed.clear()
            self._admission.pump()

    async def drain(self, grace_s: float, *, hurry: asyncio.Event) -> None:
        """Refuses new requests, lets those that run finish, and cuts what is left after the grace, or at `hurry`."""
        self._is_draining = True
        await wait_done(self._is_empty.wait(), grace_s, hurry=hurry)
        if self._journeys:
            _LOG.warning("drain_cut_short", requests=len(self._journeys))
            self._metrics.add(catalogue.DRAIN_CUTS, len(self._journeys))
            for journey in self._journeys.values():
                journey.cut()
            await wait_set(self._is_empty, TELL_S)  # so that nobody ends them otherwise before they have ended so

    def _objection(self, request: Request) -> BatonError | None:
        if self._is_draining:
            return Unavailable(
                message="this router is leaving: use another", reason=Reason.DRAINING, retry_after_s=RETRY_S
            )
        if (request.tenant, request.id) in self._journeys:
            return AlreadyExists(message=f"request {request.id} is being served", facts={"request": request.id})
        return None

    def _journey(self, request: Request, texts: Sequence[ChoiceText], replay: Replay | None) -> Journey:
        record = Record(request, clock=self._track.clock, metrics=self._metrics, where=self._router.router)
        return Journey(
            request=request,
            name=RequestId(f"{request.id}#{self._entropy.bits(32):08x}"),
            router=self._router,
            track=self._track,
            admission=self._admission,
            stream=RequestStream(request, texts, max_tokens=self._max_buffered_tokens, replay=replay),
            record=record,
            settings=self._settings,
        )


def _log_end(journey: Journey) -> None:
    record = journey.record
    if conflicts := journey.stream.num_conflicts:
        # Two workers drew different tokens for one index: the client kept the first, and somebody computed wrongly.
        _LOG.error("tokens_conflict", request=journey.request.id, conflicts=conflicts)
    _LOG.debug(
        "request_ended",
        request=journey.request.id,
        outcome=record.outcome,
        prompt_length=len(journey.request.prompt),
        output_length=record.num_output,
        placements=record.num_placements,
    )
