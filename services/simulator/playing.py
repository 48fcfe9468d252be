"""A trace played whole: the production line and policy place each request, machines take every step of it.

arrives -> waits in the line -> placed: reserve on D, read on P, ship, adopt        -> written
                ^                  |    or read and write on D
                '-- refused by D --'
"""

import math
from collections.abc import Callable, Sequence

from common.core.entropy import SeededEntropy
from common.core.errors import Refused
from common.core.ids import RequestId, WorkerId
from services.router.admission.limits import AdmissionLimits
from services.router.admission.line import Line
from services.router.admission.ticket import Ticket, Usage
from services.router.classify import Facts
from services.simulator.capacity import SeenCapacity
from services.simulator.cluster import ClusterShape
from services.simulator.copies import Copies
from services.simulator.fleet import SeenFleet
from services.simulator.holders import Holders
from services.simulator.job import Answer, Job, JobContext, Told
from services.simulator.machines import make_machines
from services.simulator.outcome import Outcome, Served
from services.simulator.policies import Policy
from services.simulator.recorded import Recorded
from services.simulator.shipments import Shipments
from services.simulator.timeline import Timeline
from services.simulator.trace import Trace

PATIENCE_S = 600.0
"""As `router.default_deadline_s`: who waits longer is gone."""


class Play:
    """One policy on one trace. Writer of everything in it. `recorded`: of each request, where they were served live."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        trace: Trace,
        shape: ClusterShape,
        *,
        limits: AdmissionLimits,
        seed: int = 0,
        hint_delay_s: float = 0.0,
        patience_s: float = PATIENCE_S,
        recorded: Sequence[Recorded] = (),
    ) -> None:
        self.outcome = Outcome(policy=name)
        self._policy = policy
        self._patience_s = patience_s
        self._trace = trace
        self._shape = shape
        self._recorded = recorded
        self._timeline = Timeline()
        self._holders = Holders(self._timeline, delay_s=hint_delay_s)
        self._chance = SeededEntropy(seed)
        size, page_bytes, told = trace.page_size, self._page_bytes, self._told()
        machines = make_machines(
            shape, page_size=size, holders=self._holders, timeline=self._timeline, told=told, gaps=self.outcome.gaps
        )
        self._readers, self._writers, self._machines = machines.readers, machines.writers, machines.by_name
        self.outcome.machines = [machine.tally for machine in self._machines.values()]
        links: dict[WorkerId, float] = dict.fromkeys(self._machines, 0.0)
        self._fleet = SeenFleet(
            tuple(self._machines.values()),
            self._holders,
            duals=[ref.worker for ref, _role, is_dual in shape.roles() if is_dual],
            page_bytes=page_bytes,
            can_fetch=shape.can_fetch,
        )
        self._copies = Copies(
            self._timeline, links=links, page_size=size, page_bytes=page_bytes, cost=shape.cost, hop_s=shape.hop_s
        )
        self._shipments = Shipments(self._timeline, links=links, page_size=size, page_bytes=page_bytes, shape=shape)
        self._capacity = SeenCapacity(lambda: self._fleet.view(self._timeline.now))
        self._line = Line(limits)
        self._jobs: dict[RequestId, Job] = {}
        self._called_at = -math.inf

    @property
    def _page_bytes(self) -> int:
        return self._shape.token_bytes * self._trace.page_size

    def _told(self) -> Told:
        return Told(read=self._read, shipped=self._shipped, written=self._written)

    def run(self) -> Outcome:
        """Plays the whole trace, and waits for its last answer."""
        for index in range(len(self._trace.requests)):
            self._timeline.run_until(self._trace.requests[index].arrived_s)
            self._arrive(index)
        self._timeline.run_out()
        self.outcome.num_events = self._timeline.num_events
        for machine in self._machines.values():
            machine.tally.evictions = machine.pages.evictions
        return self.outcome

    # The line

    def _arrive(self, index: int) -> None:
        request, now = self._trace.requests[index], self._timeline.now
        served = Served(arrived=now, prompt_tokens=request.prompt_tokens, output_tokens=request.output_tokens)
        self.outcome.served.append(served)
        job = Job(
            index=index,
            id=RequestId(str(index)),
            request=request,
            served=served,
            max_tokens=self._recorded[index].max_tokens if self._recorded else None,
            limit_tokens=self._shape.limit_tokens(request.output_tokens),
            page_size=self._trace.page_size,
        )
        if job.worst_pages > self._fleet.max_pages():
            served.is_refused = True  # by the router: it would wait for ever, and hold up whoever comes after it
            return
        try:
            self._line.offer(self._ticket(job), now, chance=self._chance.bits(32) / 2**32)
        except Refused:
            served.is_refused = True
            return
        self._jobs[job.id] = job
        self._pump()

    def _ticket(self, job: Job) -> Ticket:
        request = job.request
        facts = self._facts(job)
        best = max(facts.hits.values(), default=0)
        return Ticket(
            request=job.id,
            priority=job.priority,
            arrived=job.served.arrived,
            deadline=job.served.arrived + self._patience_s,
            num_pages=facts.num_pages,
            num_tokens=request.prompt_tokens,
            uncached_tokens=request.prompt_tokens - min(best, request.prompt_tokens - 1),
            max_new_tokens=job.most_tokens,
            has_run=job.num_attempts > 0,
        )

    def _pump(self) -> None:
        while (ticket := self._line.take(self._timeline.now, self._capacity)) is not None:
            self._place(self._jobs[ticket.request])

    def _again(self, job: Job) -> None:
        """No place for it: it waits again, with its old age."""
        now = self._timeline.now
        job.num_attempts += 1
        self.outcome.num_bounced += 1
        retry_s = self._line.refuse(job.id, now)
        self._line.leave(job.id, Usage(), now)
        self._line.offer(self._ticket(job), now, chance=0.0)
        self._timeline.at(now + retry_s, self._pump)

    # Placing

    def _facts(self, job: Job) -> Facts:
        hits = self._fleet.hits(job.request.pages, self._trace.page_size)
        return Facts(
            context_tokens=job.request.prompt_tokens,
            num_choices=1,
            page_size=self._trace.page_size,
            hits=hits,
            awaited=self._fleet.awaited(job.request.pages),
            priority=job.priority,
            max_tokens=job.max_tokens or 0,
            answer_tokens=self._line.answer_tokens,
        )

    def _policy_for(self, job: Job) -> Policy:
        recorded = self._recorded[job.index].policy if self._recorded else None
        return recorded or self._policy

    def _place(self, job: Job) -> None:
        now = self._timeline.now
        facts = self._facts(job)
        route = job.route = self._policy_for(job)(facts, self._fleet.view(now))
        if route is None:
            self._timeline.at(now, lambda: self._again(job))
            return
        self._line.assign(job.id)
        job.served.admitted = now
        job.served.is_remote = route.prefill is not None
        job.sent_tokens = route.unread_tokens(facts)
        job.on_decode = self._context(job)
        self._holders.predict(job.request.pages, self._machines[route.reader.worker].slot)
        own_tokens = job.sent_tokens if route.prefill is None else 0
        self._fleet.assign(route.decode, tokens=own_tokens, pages=facts.num_pages, now=now)
        if route.prefill is not None:
            self._fleet.assign(route.prefill, tokens=job.sent_tokens, pages=0, now=now)
        writer, context = self._writers[route.decode.worker], job.on_decode

        def answered(is_taken: bool) -> None:
            self._decided(job, is_taken=is_taken)

        if route.prefill is None:
            self._queue(job, context, lambda answer: writer.start_local(context, job, answer), answered)
        else:
            self._hop(lambda: writer.post(lambda: writer.reserve(context, job, answered)))

    def _queue(self, job: Job, context: JobContext, queue: Callable[[Answer], None], answer: Answer) -> None:
        """With the reader, after its cached pages were kept where the route says that they are."""
        assert job.route is not None
        reader, source = self._machines[job.route.reader.worker], job.route.source
        if source is None:
            self._hop(lambda: reader.post(lambda: queue(answer)))
        else:
            self._copies.queue(context, self._machines[source.worker], reader, queue, answer)

    def _context(self, job: Job, *, is_export: bool = False) -> JobContext:
        deadline = job.served.arrived + self._patience_s
        return JobContext(job, arrived=self._timeline.now, deadline=deadline, is_export=is_export)

    def _hop(self, then: Callable[[], None]) -> None:
        """A call of the router: two never arrive at the same moment."""
        shape = self._shape
        self._called_at = max(self._timeline.now, self._called_at + shape.call_s)
        self._timeline.at(self._called_at + shape.hop_s, then)

    def _decided(self, job: Job, *, is_taken: bool) -> None:
        """The decode machine's word."""
        route = job.route
        assert route is not None
        if not is_taken:
            now = self._timeline.now
            self._fleet.take_back(route.reader, job.sent_tokens, now)
            if route.prefill is not None:
                self._fleet.release(route.decode)
            self._fleet.note_refusal(route.decode, now)
            self._again(job)
            return
        if route.prefill is None:
            self._landed(job)
            return
        context = job.on_prefill = self._context(job, is_export=True)
        self._submit(job, context)

    def _submit(self, job: Job, context: JobContext) -> None:
        assert job.route is not None
        assert job.route.prefill is not None
        worker = job.route.prefill.worker

        def answered(is_taken: bool) -> None:
            assert is_taken, f"{worker} has no place for a prompt: the line let in too many"
            self._landed(job)

        if (reader := self._readers.get(worker)) is not None:
            self._queue(job, context, lambda answer: reader.submit(context, answer), answered)
        else:
            dual = self._writers[worker]
            self._queue(job, context, lambda answer: dual.start_local(context, job, answer), answered)

    def _landed(self, job: Job) -> None:
        """With whoever reads it."""
        assert job.route is not None
        self._fleet.land(job.route.reader, job.sent_tokens)
        self._line.land(job.id, self._timeline.now)

    # What machines tell

    def _read(self, job: Job, context: JobContext, now: float) -> None:
        assert job.route is not None
        assert job.on_decode is not None
        job.served.first_token = now + self._shape.hop_s
        job.on_decode.last_token_at = now
        self._fleet.note_read(job.route.reader, job.sent_tokens)
        if context.is_export:
            self._fleet.release(job.route.reader)

    def _shipped(self, job: Job, num_pages: int, is_last: bool) -> None:
        self._shipments.ship(job, num_pages, is_last=is_last, land=lambda: self._land(job))

    def _land(self, job: Job) -> None:
        assert job.route is not None
        writer, context = self._writers[job.route.decode.worker], job.on_decode
        assert context is not None
        writer.post(lambda: writer.adopt(context))

    def _written(self, job: Job) -> None:
        assert job.route is not None
        now = self._timeline.now
        job.served.finished = now + self._shape.hop_s
        self._fleet.release(job.route.decode)
        self._line.leave(job.id, Usage(generated_tokens=job.request.output_tokens), now)
        del self._jobs[job.id]
        self._timeline.at(now, self._pump)
