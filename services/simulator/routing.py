"""Routing alone: every request of a trace is placed, read and written by machines without steps.

For questions about hit rate and balance, a hundred thousand requests a minute.
"""

from collections import deque
from dataclasses import dataclass

from common.core.ids import RequestId, SequenceId, WorkerId, WorkerRef
from common.core.request import Priority
from common.core.worker import Role
from services.router.classify import Facts
from services.router.policy import Route
from services.simulator.cluster import ClusterShape
from services.simulator.context import Context
from services.simulator.copies import Copies
from services.simulator.fleet import REFUSAL_S, SeenFleet
from services.simulator.flow import FlowMachine
from services.simulator.holders import Holders
from services.simulator.outcome import Outcome, Served
from services.simulator.pages import CountedPages
from services.simulator.policies import Policy
from services.simulator.timeline import Timeline
from services.simulator.trace import Trace, TraceRequest

FOREVER_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """One request on its way. `sent_tokens`: what the reader was thought to have to compute. `on_prefill` is the
    context where another machine reads the prompt, `on_decode` where the answer is written."""

    request: TraceRequest
    served: Served
    route: Route
    sent_tokens: int
    on_decode: Context
    on_prefill: Context | None


class RoutingReplay:
    """One policy on one trace. Writer of everything in it."""

    def __init__(
        self, name: str, policy: Policy, trace: Trace, shape: ClusterShape, *, hint_delay_s: float = 0.0
    ) -> None:
        self._policy = policy
        self._trace = trace
        self._shape = shape
        self._timeline = Timeline()
        self._holders = Holders(self._timeline, delay_s=hint_delay_s)
        self._machines: dict[WorkerId, FlowMachine] = {}
        total = shape.cache_tokens // trace.page_size
        for ref, role, _is_dual in shape.roles():
            slot = self._holders.open()
            self._machines[ref.worker] = FlowMachine(
                ref,
                role,
                slot=slot,
                pages=CountedPages(total=total, slot=slot, holders=self._holders),
                page_size=trace.page_size,
                cost=shape.reading_cost if role is Role.PREFILL else shape.cost,
                chunk_tokens=shape.chunk_tokens,
                later=self._timeline.at,
            )
        self._fleet = SeenFleet(
            tuple(self._machines.values()),
            self._holders,
            duals=[ref.worker for ref, _role, is_dual in shape.roles() if is_dual],
            page_bytes=shape.token_bytes * trace.page_size,
            can_fetch=shape.can_fetch,
        )
        self._copies = Copies(
            self._timeline,
            links={},
            page_size=trace.page_size,
            page_bytes=shape.token_bytes * trace.page_size,
            cost=shape.cost,
            hop_s=shape.hop_s,
        )
        self._token_bytes = shape.token_bytes
        self._cost = shape.cost
        self._waiting: deque[int] = deque()
        self.outcome = Outcome(policy=name, machines=[machine.tally for machine in self._machines.values()])

    def run(self) -> Outcome:
        """Plays the whole trace, and waits for its last answer."""
        for index, request in enumerate(self._trace.requests):
            self._timeline.run_until(request.arrived_s)
            served = Served(
                arrived=request.arrived_s, prompt_tokens=request.prompt_tokens, output_tokens=request.output_tokens
            )
            self.outcome.served.append(served)
            if self._most_pages(request) > self._fleet.max_pages():
                served.is_refused = True
                continue
            self._waiting.append(index)
            self._pump()
        self._timeline.run_out()
        self.outcome.num_events = self._timeline.num_events
        for machine in self._machines.values():
            machine.tally.evictions = machine.pages.evictions
        return self.outcome

    def _most_pages(self, request: TraceRequest) -> int:
        """Of prompt and answer, if the answer takes all that it may: who never has so many is not asked."""
        most = request.prompt_tokens + self._shape.limit_tokens(request.output_tokens)
        return -(-most // self._trace.page_size)

    def _pump(self) -> None:
        """Places whoever fits, in order: the first that does not holds up the rest."""
        while self._waiting and self._place(self._waiting[0]):
            self._waiting.popleft()

    def _place(self, index: int) -> bool:
        request = self._trace.requests[index]
        page_size = self._trace.page_size
        facts = Facts(
            context_tokens=request.prompt_tokens,
            num_choices=1,
            page_size=page_size,
            hits=self._fleet.hits(request.pages, page_size),
            awaited=self._fleet.awaited(request.pages),
        )
        now = self._timeline.now
        route = self._policy(facts, self._fleet.view(now))
        if route is None:
            return False
        placed = _Placed(
            request=request,
            served=self.outcome.served[index],
            route=route,
            sent_tokens=route.unread_tokens(facts),
            on_decode=self._context(index),
            on_prefill=self._context(index) if route.prefill else None,
        )
        refused_by = self._promise(placed)
        if refused_by is not None:
            self._fleet.note_refusal(refused_by, now)
            self.outcome.num_bounced += 1
            self._timeline.at(now + REFUSAL_S * 1.01, self._pump)
            return False
        self._start(placed)
        return True

    def _context(self, index: int) -> Context:
        request = self._trace.requests[index]
        return Context(
            SequenceId(RequestId(str(index)), 0),
            page_names=request.pages,
            prompt_tokens=request.prompt_tokens,
            arrived=request.arrived_s,
            deadline=FOREVER_S,
            priority=Priority.STANDARD,
        )

    def _promise(self, placed: _Placed) -> WorkerRef | None:
        """Sets pages aside on both machines; answers who has too few."""
        request, route, page_size = placed.request, placed.route, self._trace.page_size
        pages = self._machines[route.decode.worker].pages
        if placed.on_prefill is not None:
            found = request.pages[: pages.find(request.pages)]
            placed.on_decode.hold(pages, found, page_size)
        wanted = -(-(request.prompt_tokens + request.output_tokens) // page_size)
        if not placed.on_decode.promise(pages, wanted):
            placed.on_decode.give_back(pages)
            return route.decode
        if route.prefill is not None and placed.on_prefill is not None:
            others = self._machines[route.prefill.worker].pages
            if not placed.on_prefill.promise(others, -(-request.prompt_tokens // page_size)):
                pages.forgo(placed.on_decode.private_pages)
                placed.on_decode.pages_held -= placed.on_decode.private_pages
                placed.on_decode.give_back(pages)
                return route.prefill
        return None

    def _start(self, placed: _Placed) -> None:
        route, now = placed.route, self._timeline.now
        reader = self._machines[(route.prefill or route.decode).worker]
        placed.served.admitted = now
        placed.served.is_remote = placed.on_prefill is not None
        self._holders.predict(placed.request.pages, reader.slot)
        if route.prefill is not None:
            self._fleet.assign(route.decode, tokens=0, pages=placed.on_decode.private_pages, now=now)
        self._fleet.assign(
            reader.ref, tokens=placed.sent_tokens, pages=0 if route.prefill else placed.on_decode.private_pages, now=now
        )
        context = placed.on_prefill or placed.on_decode

        def read() -> None:
            reader.read(self._timeline.now, context, lambda cached: self._read(placed, cached))

        if route.source is None:
            read()
            return
        holder = self._machines[route.source.worker]
        self._copies.keep(context, holder, lambda kept: self._copies.fetch(context, kept, holder, reader, read))

    def _read(self, placed: _Placed, cached: int) -> None:
        """The prompt is read and its first token drawn."""
        now, route, served = self._timeline.now, placed.route, placed.served
        served.first_token, served.cached_tokens = now, cached
        decode = self._machines[route.decode.worker]
        reader = route.prefill or route.decode
        self._fleet.note_read(reader, placed.sent_tokens)
        if placed.on_prefill is None:
            decode.write(now, placed.on_decode, placed.request.output_tokens - 1, lambda at: self._written(placed, at))
            return
        placed.on_prefill.give_back(self._machines[reader.worker].pages)
        self._fleet.release(reader)
        missing = placed.on_decode.private_pages * self._trace.page_size * self._token_bytes
        self._timeline.at(now + self._cost.transfer_seconds(missing), lambda: self._land(placed))

    def _land(self, placed: _Placed) -> None:
        decode = self._machines[placed.route.decode.worker]
        decode.land(placed.on_decode)
        decode.write(
            self._timeline.now,
            placed.on_decode,
            placed.request.output_tokens - 1,
            lambda at: self._written(placed, at),
        )

    def _written(self, placed: _Placed, now: float) -> None:
        placed.served.finished = now
        self._fleet.release(placed.route.decode)
        self._pump()
