"""The mechanics both roles share: sequences, their pages, and one forward per plan.

The journey of a sequence here:

    add -> begin (prefix found) -> extend ... -> drawn -> proceed (fork) -> decode ... -> retire
              ^ preempted          adopt (pages landed) ----^                 |
              '----------------------------------------------------------------'

A step is launched, and collected at once or one step later: flight.py says what that changes.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import groupby

from common.core.errors import InternalError
from common.core.ids import PageRef, SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import Work
from common.core.shaping import Shaping
from common.core.step import Draw
from common.engine.bans import Bans
from common.engine.executor import Executor
from common.engine.finish import EndRules
from common.engine.flight import Launcher
from common.engine.flights import Flights
from common.engine.holdings import Holdings
from common.engine.inline import InlineLauncher
from common.engine.outcome import BatchOutcome, Drawn
from common.engine.plan import BatchPlan, SequenceView
from common.engine.rule import TokenRule
from common.engine.sequence import Sequence
from common.kv.cache import PageCache
from common.kv.hashing import PrefixChain
from common.kv.layout import PageLayout


class Batch:
    """Holds every sequence of a worker. Writer: the step loop, through the core that owns this batch.

    `launcher` None: the executor's own thread is the caller's, and a launched step is done.
    """

    def __init__(
        self,
        *,
        cache: PageCache,
        executor: Executor,
        layout: PageLayout,
        eos_ids: Collection[TokenId],
        launcher: Launcher | None = None,
    ) -> None:
        self._holdings = Holdings(cache, layout)
        self._layout = layout
        self._ends = EndRules(eos_ids=frozenset(eos_ids), max_context=executor.max_context)
        self._sequences: dict[SequenceId, Sequence] = {}
        self._flights = Flights(
            self._sequences,
            holdings=self._holdings,
            launcher=launcher or InlineLauncher(executor),
            page_size=layout.page_size,
            vocab_size=executor.vocab_size,
            ends=self._ends,
        )

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: SequenceId) -> bool:
        return sequence in self._sequences

    def __getitem__(self, sequence: SequenceId) -> Sequence:
        return self._sequences[sequence]

    @property
    def max_context(self) -> int:
        return self._ends.max_context

    # Coming in

    def add(self, work: Work, *, arrived: float, rule: TokenRule | None = None) -> SequenceId:
        """Take work whose context must be computed here. It holds no page until `begin`.

        `rule`: the state of its constraint, which has accepted what an earlier attempt emitted.
        """
        unread = [each for each in self._sequences.values() if not each.is_read]
        sequence = self._add(work, arrived=arrived, rule=rule)
        self._holdings.foresee(sequence, unread)
        return sequence.id

    def note_coming(self, sequence: SequenceId, num_pages: int) -> None:
        """So many of its leading pages are on their way here."""
        held = self._sequences[sequence]
        held.num_found = max(held.num_found, num_pages * self._layout.page_size)

    def begin(self, sequence: SequenceId) -> None:
        """Find what the cache holds of a sequence, new or preempted, before its first extend.

        At least one token is left to compute: the draw needs its logits. A prompt whose log probabilities are wanted
        is computed whole.
        """
        self._holdings.find(self._sequences[sequence])

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
        sequence.pages = tuple(pages)
        sequence.num_registered = held
        sequence.num_cached = held * self._layout.page_size
        sequence.num_computed = len(sequence.tokens)
        self._holdings.lend_full_pages(sequence)
        firsts = [(choice, first_tokens[choice.index]) for choice in sequence.choices]
        try:
            return tuple(
                sequence.drew(choice, first.token, first.logprobs, ends=self._ends) for choice, first in firsts
            )
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
            bans=Bans.of(work.sampling, self._ends.eos_ids, is_constrained=rule is not None),
            rule=rule,
            wants_scores=work.sampling.prompt_logprobs is not None and len(work.prompt) > 1,
        )
        assert sequence.id not in self._sequences, f"{sequence.id} is already in the batch"
        self._sequences[sequence.id] = sequence
        return sequence

    # One step

    def run(self, plan: BatchPlan) -> BatchOutcome:
        """Carry out a plan: one forward over every row that finds its pages. Drawn tokens await `proceed`."""
        assert not len(self._flights), "a step is in flight: collect it first"
        self.launch(plan)
        return self.collect()

    def launch(self, plan: BatchPlan) -> bool:
        """Start a plan's step, behind at most one that is in flight. False: no row found its pages, nothing runs."""
        return self._flights.launch(plan)

    def collect(self) -> BatchOutcome:
        """Wait for the oldest step in flight. Drawn tokens await `proceed`; what has left since is not mentioned."""
        return self._flights.collect()

    @property
    def num_in_flight(self) -> int:
        return len(self._flights)

    @property
    def needs_collection(self) -> bool:
        """Whether some sequence in flight can go on only when its token is known here."""
        return self._flights.needs_collection

    def is_ending(self, sequence: SequenceId) -> bool:
        """Whether a sequence waits for its last token: nothing may be planned for it."""
        return self._sequences[sequence].is_ending(self.max_context)

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
                parent.chain.append(draw.token)
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
            chain = parent.chain.copy()
            chain.append(draw.token)
            shaping = parent.shaping.copy() if parent.shaping is not None else None
            if shaping is not None:
                shaping.note(draw.token)
            self._sequences[draw.sequence] = replace(
                parent,
                choices=(draw.choice,),
                tokens=[*parent.tokens, draw.token],
                chain=chain,
                pages=self._holdings.share(parent.pages),
                shaping=shaping,
                rule=draw.rule,
            )
        self._holdings.give_back(parent.pages)

    def retire(self, sequence: SequenceId) -> None:
        """Finished, cancelled or failed: the references go, and full pages become cache."""
        self._holdings.give_back(self._sequences.pop(sequence).pages)

    @property
    def empty_slots(self) -> int:
        """Slots that hold no token in the pages of all sequences; a page that several share counts once."""
        return self._holdings.empty_slots(list(self._sequences.values()))

    def view(self, sequence: SequenceId) -> SequenceView:
        """What a scheduler may know of one sequence."""
        held = self._sequences[sequence]
        num_pending = held.num_pending
        return SequenceView(
            id=sequence,
            priority=held.work.priority,
            arrived=held.arrived,
            deadline=held.work.deadline,
            num_tokens=held.num_launched + num_pending,
            num_pending=num_pending,
            pages_held=len(held.pages),
            private_pages=len(held.pages) - held.num_cached // self._layout.page_size,
            needs_copy=bool(held.pages) and self._holdings.needs_copy(held),
            is_decoding=num_pending == 1 and held.has_drawn,
            tenant=held.work.tenant,
        )
