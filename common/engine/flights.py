"""The steps of a batch that are in flight: made of plans, launched in order, collected in order."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from itertools import zip_longest

from common.core.cost.work import StepWork
from common.core.errors import InternalError
from common.core.ids import SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.step import PageCopy, Step, StepResult, StepRow
from common.engine.finish import EndRules
from common.engine.flight import Launched, Launcher
from common.engine.holdings import Holdings
from common.engine.outcome import BatchOutcome, Drawn, Scored
from common.engine.plan import BatchPlan
from common.engine.sequence import Sequence

MAX_SCORED_LOGITS = 2**24
"""Logits that one step may hold for prompts whose log probabilities are wanted, 64 MiB: such prompts are read in
smaller chunks where the vocabulary is large. Chosen: 110 tokens of the largest vocabulary in wide use."""


class Flights:
    """At most two at a time: one that runs, and the one launched behind it. Owner: the batch, whose `sequences` it
    reads and steps. flight.py has the rules."""

    def __init__(
        self,
        sequences: Mapping[SequenceId, Sequence],
        *,
        holdings: Holdings,
        launcher: Launcher,
        page_size: int,
        vocab_size: int,
        ends: EndRules,
    ) -> None:
        self._sequences = sequences
        self._holdings = holdings
        self._launcher = launcher
        self._page_size = page_size
        self._vocab_size = vocab_size
        self._ends = ends
        self._in_flight: deque[Launched] = deque()

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def needs_collection(self) -> bool:
        """Whether some sequence in flight can go on only when its token is known here."""
        return any(
            sequence.needs_host and not sequence.is_ending(self._ends.max_context)
            for launched in self._in_flight
            for sequence in launched.sequences
            if self._holds(sequence)
        )

    def launch(self, plan: BatchPlan) -> bool:
        """Start a plan's step, behind at most one that is in flight. False: no row found its pages, nothing runs."""
        assert len(self._in_flight) <= 1, f"{len(self._in_flight)} steps are in flight"
        assert not (plan.preempt and self._in_flight), "a plan that preempts is made with nothing in flight"
        for victim in plan.preempt:
            self._holdings.preempt(self._sequences[victim])
        rows: list[StepRow] = []
        copies: list[PageCopy] = []
        sequences: list[Sequence] = []
        deferred: list[Sequence] = []
        broken: list[Sequence] = []
        scored_room = max(1, MAX_SCORED_LOGITS // self._vocab_size)
        for sequence, num_tokens in self._wanted(plan):
            count = min(num_tokens, scored_room) if sequence.wants_scores else num_tokens
            if not (count and self._holdings.grow(sequence, sequence.num_launched + count, copies)):
                deferred.append(sequence)
                continue
            try:
                rows.append(sequence.row(count, page_size=self._page_size))
            except InternalError:
                broken.append(sequence)
                continue
            sequences.append(sequence)
            scored_room -= count if sequence.wants_scores else 0
        step = Step(rows=tuple(rows), copies=tuple(copies))
        flight = self._launcher.launch(step) if rows else None
        for place, (row, sequence) in enumerate(zip(rows, sequences, strict=True)):
            sequence.note_launched(row, place)
        self._holdings.depart()
        launched = Launched(
            plan=plan,
            step=step,
            sequences=tuple(sequences),
            deferred=tuple(deferred),
            broken=tuple(broken),
            flight=flight,
        )
        self._in_flight.append(launched)
        return flight is not None

    def _wanted(self, plan: BatchPlan) -> Iterator[tuple[Sequence, int]]:
        for extend in plan.extend:
            yield self._sequences[extend.sequence], extend.num_tokens
        for sequence in plan.decode:
            yield self._sequences[sequence], 1

    def collect(self) -> BatchOutcome:
        """Wait for the oldest step in flight. Drawn tokens await `proceed`; what has left since is not mentioned."""
        launched = self._in_flight.popleft()
        result = StepResult(drawn=(), seconds=0.0) if launched.flight is None else launched.flight.collect()
        self._holdings.arrive()
        for row, sequence in zip(launched.step.rows, launched.sequences, strict=True):
            sequence.note_collected(row)
        return self._outcome(launched, result)

    def _outcome(self, launched: Launched, result: StepResult) -> BatchOutcome:
        rows = launched.step.rows
        mine = {row.sequence for row, own in zip(rows, launched.sequences, strict=True) if self._holds(own)}
        broken = [sequence.id for sequence in launched.broken if self._holds(sequence)]
        for identity in result.failed:
            if identity in mine:
                self._holdings.disown(self._sequences[identity])
                broken.append(identity)
        drawn: list[Drawn] = []
        for row, tokens, logprobs in zip_longest(rows, result.drawn, result.logprobs):
            if row.sequence in result.failed or row.sequence not in mine:
                continue
            try:
                drawn.extend(self._advance(row, tokens, logprobs or ()))
            except InternalError:
                broken.append(row.sequence)
        gone = frozenset(broken)
        extended = tuple(row.sequence for row in rows if row.sequence in mine and row.sequence not in gone)
        return BatchOutcome(
            plan=launched.plan,
            drawn=tuple(drawn),
            scored=self._scored(rows, result, frozenset(extended)),
            extended=extended,
            preempted=launched.plan.preempt,
            deferred=tuple(sequence.id for sequence in launched.deferred if self._holds(sequence)),
            failed=tuple(broken),
            num_orphans=len(rows) - len(mine),
            num_tokens=launched.step.num_tokens,
            work=StepWork.of(launched.step),
            seconds=result.seconds,
        )

    def _holds(self, sequence: Sequence) -> bool:
        """Whether it is still here: another may go by its name."""
        return self._sequences.get(sequence.id) is sequence

    def _scored(
        self, rows: tuple[StepRow, ...], result: StepResult, extended: Collection[SequenceId]
    ) -> tuple[Scored, ...]:
        return tuple(
            self._sequences[row.sequence].note_scores(row, scores)
            for row, scores in zip(rows, result.scores, strict=bool(result.scores))
            if scores and row.sequence in extended
        )

    def _advance(
        self, row: StepRow, tokens: tuple[TokenId, ...], logprobs: tuple[TokenLogprobs | None, ...]
    ) -> list[Drawn]:
        sequence = self._sequences[row.sequence]
        sequence.num_computed = row.end
        self._holdings.lend_full_pages(sequence)
        if not row.samples:
            return []
        assert len(tokens) == len(sequence.choices), f"{row.sequence}: {len(tokens)} draws"
        return [
            sequence.drew(choice, token, own, ends=self._ends)
            for choice, token, own in zip_longest(sequence.choices, tokens, logprobs)
        ]
