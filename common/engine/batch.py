"""The mechanics both roles share: sequences, their pages, and one forward per plan.

The journey of a sequence here:

    add -> begin (prefix found) -> extend ... -> drawn -> proceed (fork) -> decode ... -> retire
              ^ preempted          adopt (pages landed) ----^                 |
              '----------------------------------------------------------------'

"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import groupby, zip_longest

from common.core.cost.work import StepWork
from common.core.errors import InternalError
from common.core.ids import PageId, PageRef, SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import Choice, FinishReason, Work
from common.core.shaping import Shaping
from common.core.step import Draw, PageCopy, Step, StepRow
from common.engine.bans import Bans
from common.engine.executor import Executor
from common.engine.finish import finish_reason
from common.engine.outcome import BatchOutcome, Drawn
from common.engine.plan import BatchPlan, SequenceView
from common.engine.rule import TokenRule
from common.engine.sequence import Sequence
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain
from common.kv.layout import PageLayout

MAX_SCORED_LOGITS = 2**24
"""Logits that one step may hold for prompts whose log probabilities are wanted, 64 MiB: such prompts are read in
smaller chunks where the vocabulary is large. Chosen: 110 tokens of the largest vocabulary in wide use."""


class Batch:
    """Holds every sequence of a worker. Writer: the step loop, through the core that owns this batch."""

    def __init__(
        self, *, cache: PageCache, executor: Executor, layout: PageLayout, eos_ids: Collection[TokenId]
    ) -> None:
        self._cache = cache
        self._executor = executor
        self._layout = layout
        self._eos_ids = frozenset(eos_ids)
        self._sequences: dict[SequenceId, Sequence] = {}

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: SequenceId) -> bool:
        return sequence in self._sequences

    def __getitem__(self, sequence: SequenceId) -> Sequence:
        return self._sequences[sequence]

    @property
    def max_context(self) -> int:
        return self._executor.max_context

    # Coming in

    def add(self, work: Work, *, arrived: float, rule: TokenRule | None = None) -> SequenceId:
        """Take work whose context must be computed here. It holds no page until `begin`.

        `rule`: the state of its constraint, which has accepted what an earlier attempt emitted.
        """
        return self._add(work, arrived=arrived, rule=rule).id

    def begin(self, sequence: SequenceId) -> None:
        """Find what the cache holds of a sequence, new or preempted, before its first extend.

        At least one token is left to compute: the draw needs its logits. A prompt whose log probabilities are wanted
        is computed whole.
        """
        held = self._sequences[sequence]
        assert not held.pages, f"{sequence} begins while it holds {len(held.pages)} pages"
        held.pages = [] if held.wants_scores else list(self._cache.match(held.chain.hashes, held.tokens[:-1]))
        held.num_registered = len(held.pages)
        held.num_computed = len(held.pages) * self._layout.page_size
        held.num_cached = held.num_computed

    def adopt(
        self,
        work: Work,
        pages: Iterable[PageRef],
        first_tokens: Mapping[int, Draw],
        *,
        arrived: float,
        held: int,
        prompt_scores: Iterable[TokenLogprobs] = (),
        rule: TokenRule | None = None,
    ) -> tuple[Drawn, ...]:
        """Take a context whose pages have landed, with what prefill drew. The caller's references move in.

        `held` leading pages were already in the cache. Call `proceed` with the result. Raises InternalError where the
        work's constraint refuses a first token: then nothing was taken, and the references stay the caller's.
        """
        sequence = self._add(work, arrived=arrived, rule=rule)
        sequence.prompt_scores = list(prompt_scores)
        sequence.wants_scores = False
        sequence.pages = list(pages)
        sequence.num_registered = held
        sequence.num_cached = held * self._layout.page_size
        sequence.num_computed = len(sequence.tokens)
        self._register_full_pages(sequence)
        firsts = [(choice, first_tokens[choice.index]) for choice in sequence.choices]
        try:
            return tuple(self._drawn(sequence, choice, first.token, first.logprobs) for choice, first in firsts)
        except InternalError:
            del self._sequences[sequence.id]
            raise

    def _add(self, work: Work, *, arrived: float, rule: TokenRule | None) -> Sequence:
        tokens = list(work.context)
        chain = PrefixChain(scope=work.cache_scope, layout=self._layout)
        chain.extend(tokens)
        sequence = Sequence(
            work=work,
            choices=work.choices,
            tokens=tokens,
            arrived=arrived,
            chain=chain,
            shaping=Shaping.of(work.sampling, prompt=work.prompt, output=work.emitted),
            bans=Bans.of(work.sampling, self._eos_ids, is_constrained=rule is not None),
            rule=rule,
            wants_scores=work.sampling.prompt_logprobs is not None and len(work.prompt) > 1,
        )
        assert sequence.id not in self._sequences, f"{sequence.id} is already in the batch"
        self._sequences[sequence.id] = sequence
        return sequence

    # One step

    def run(self, plan: BatchPlan) -> BatchOutcome:
        """Carry out a plan: one forward over every row that finds its pages. Drawn tokens await `proceed`."""
        for victim in plan.preempt:
            self._preempt(self._sequences[victim])
        rows: list[StepRow] = []
        copies: list[PageCopy] = []
        deferred: list[SequenceId] = []
        broken: list[SequenceId] = []
        scored_room = max(1, MAX_SCORED_LOGITS // self._executor.vocab_size)
        wanted = [(extend.sequence, extend.num_tokens) for extend in plan.extend] + [
            (sequence, 1) for sequence in plan.decode
        ]
        for identity, num_tokens in wanted:
            sequence = self._sequences[identity]
            count = min(num_tokens, scored_room) if sequence.wants_scores else num_tokens
            if not (count and self._grow(sequence, sequence.num_computed + count, copies)):
                deferred.append(identity)
                continue
            try:
                rows.append(sequence.row(count, page_size=self._layout.page_size))
            except InternalError:
                broken.append(identity)
                continue
            scored_room -= count if sequence.wants_scores else 0
        if not rows:
            return BatchOutcome(preempted=plan.preempt, deferred=tuple(deferred), failed=tuple(broken))
        step = Step(rows=tuple(rows), copies=tuple(copies))
        result = self._executor.run(step)
        for sequence_id in result.failed:
            self._disown(self._sequences[sequence_id])
        broken += result.failed
        drawn: list[Drawn] = []
        for row, tokens, logprobs in zip_longest(rows, result.drawn, result.logprobs):
            if row.sequence in result.failed:
                continue
            try:
                drawn.extend(self._advance(row, tokens, logprobs or ()))
            except InternalError:
                broken.append(row.sequence)
        failed = frozenset(broken)
        scored = tuple(
            self._sequences[row.sequence].note_scores(row, scores)
            for row, scores in zip(rows, result.scores, strict=bool(result.scores))
            if scores and row.sequence not in failed
        )
        return BatchOutcome(
            drawn=tuple(drawn),
            scored=scored,
            extended=tuple(row.sequence for row in rows if row.sequence not in failed),
            preempted=plan.preempt,
            deferred=tuple(deferred),
            failed=tuple(broken),
            num_tokens=step.num_tokens,
            work=StepWork.of(step),
            seconds=result.seconds,
        )

    def _preempt(self, sequence: Sequence) -> None:
        """Give every page back. What was full stays in the cache until somebody needs the room."""
        self._cache.release(sequence.pages)
        sequence.pages = []
        sequence.num_computed = sequence.num_registered = 0
        sequence.num_preemptions += 1
        if sequence.wants_scores:
            sequence.prompt_scores.clear()  # it is computed from its beginning again

    def _grow(self, sequence: Sequence, end: int, copies: list[PageCopy]) -> bool:
        """Make slots up to `end` writable. False, and nothing changed, when no page is left."""
        copies_page = self._needs_copy(sequence)
        missing = self._layout.pages_for(end) - len(sequence.pages)
        fresh = self._cache.allocate(max(0, missing) + int(copies_page))
        if fresh is None:
            return False
        new = list(fresh)
        if copies_page:
            index = sequence.num_computed // self._layout.page_size
            shared, own = sequence.pages[index], new.pop()
            copies.append(PageCopy(source=shared.page, destination=own.page))
            sequence.pages[index] = own
            self._cache.release([shared])
        sequence.pages.extend(new)
        return True

    def _needs_copy(self, sequence: Sequence) -> bool:
        """Whether the next slot lies in a partly filled page that a sibling reads too."""
        index, offset = divmod(sequence.num_computed, self._layout.page_size)
        return offset > 0 and self._cache.readers(sequence.pages[index]) > 1

    def _advance(
        self, row: StepRow, tokens: tuple[TokenId, ...], logprobs: tuple[TokenLogprobs | None, ...]
    ) -> list[Drawn]:
        sequence = self._sequences[row.sequence]
        sequence.num_computed = row.end
        self._register_full_pages(sequence)
        if not row.samples:
            return []
        assert len(tokens) == len(sequence.choices), f"{row.sequence}: {len(tokens)} draws"
        return [
            self._drawn(sequence, choice, token, own)
            for choice, token, own in zip_longest(sequence.choices, tokens, logprobs)
        ]

    def _disown(self, sequence: Sequence) -> None:
        """A row that could not be computed: what it computed before may be the cause, and is lent to nobody."""
        own = sequence.num_cached // self._layout.page_size
        self._cache.forget(sequence.pages[own:])

    def _register_full_pages(self, sequence: Sequence) -> None:
        size = self._layout.page_size
        for index in range(sequence.num_registered, sequence.num_computed // size):
            tokens = sequence.tokens[index * size : (index + 1) * size]
            parent = sequence.chain.hashes[index - 1] if index else None
            self._cache.register(sequence.pages[index], sequence.chain.hashes[index], tokens, parent=parent)
            sequence.num_registered = index + 1

    def _drawn(self, sequence: Sequence, choice: Choice, token: TokenId, logprobs: TokenLogprobs | None) -> Drawn:
        rule, sampling = sequence.rule_after(token), sequence.work.sampling
        finish = finish_reason(
            token,
            num_output=sequence.num_output + 1,
            context_length=len(sequence.tokens) + 1,
            sampling=sampling,
            eos_ids=self._eos_ids,
            max_context=self.max_context,
            is_complete=rule is not None and rule.is_over,
        )
        is_ender = token in self._eos_ids or token in sampling.stop_token_ids
        return Drawn(
            source=sequence.id,
            work=sequence.work,
            choice=choice,
            index=sequence.num_output,
            token=token,
            finish=finish,
            logprobs=logprobs,
            is_stop_token=finish is FinishReason.STOP and is_ender,
            rule=rule,
        )

    # Going on and going out

    def proceed(self, drawn: Iterable[Drawn]) -> None:
        """Append what was drawn. A context with several choices forks; a finished choice gives its pages back."""
        for source, group in groupby(drawn, key=lambda draw: draw.source):
            parent = self._sequences[source]
            if len(parent.choices) > 1:
                self._fork(parent, tuple(group))
                continue
            for draw in group:
                parent.tokens.append(draw.token)
                parent.chain.extend([draw.token])
                if parent.shaping is not None:
                    parent.shaping.note(draw.token)
                if draw.finish is not None:
                    self.retire(source)

    def _fork(self, parent: Sequence, draws: tuple[Drawn, ...]) -> None:
        """Children share the parent's pages by reference; the first to write a shared page copies it."""
        del self._sequences[parent.id]
        for draw in draws:
            if draw.finish is not None:
                continue
            self._cache.retain(parent.pages)
            chain = parent.chain.copy()
            chain.extend([draw.token])
            shaping = parent.shaping.copy() if parent.shaping is not None else None
            if shaping is not None:
                shaping.note(draw.token)
            self._sequences[draw.sequence] = replace(
                parent,
                choices=(draw.choice,),
                tokens=[*parent.tokens, draw.token],
                chain=chain,
                pages=[*parent.pages],
                shaping=shaping,
                rule=draw.rule,
            )
        self._cache.release(parent.pages)

    def retire(self, sequence: SequenceId) -> None:
        """Finished, cancelled or failed: the references go, and full pages become cache."""
        self._cache.release(self._sequences.pop(sequence).pages)

    @property
    def empty_slots(self) -> int:
        """Slots that hold no token in the pages of all sequences; a page that several share counts once."""
        size = self._layout.page_size
        empty: dict[PageId, int] = {}
        for sequence in self._sequences.values():
            first, filled = divmod(sequence.num_computed, size)
            for ref in sequence.pages[first:]:
                empty[ref.page] = size - filled
                filled = 0
        return sum(empty.values())

    def view(self, sequence: SequenceId) -> SequenceView:
        """What a scheduler may know of one sequence."""
        held = self._sequences[sequence]
        return SequenceView(
            id=sequence,
            priority=held.work.priority,
            arrived=held.arrived,
            deadline=held.work.deadline,
            num_tokens=len(held.tokens),
            num_pending=held.num_pending,
            pages_held=len(held.pages),
            private_pages=len(held.pages) - held.num_cached // self._layout.page_size,
            needs_copy=bool(held.pages) and self._needs_copy(held),
            is_decoding=held.is_decoding,
            tenant=held.work.tenant,
        )
