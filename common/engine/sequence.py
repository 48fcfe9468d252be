"""One context on one worker: its tokens, and the pages that hold their KV.

    tokens      |---- computed ----|-- in flight --|-- to launch --|.. drawn in flight ..|

What is in flight was launched and is not collected: see flight.py. Between steps that end before the next begins there
is nothing of it.
"""

from collections import abc
from dataclasses import dataclass, field

from common.core.errors import InternalError
from common.core.ids import PageId, PageRef, PrefixHash, SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import Choice, FinishReason, Priority, Work
from common.core.shaping import Shaping
from common.core.step import STAND_IN, Sample, StepRow
from common.engine.bans import Bans
from common.engine.finish import EndRules, finish_reason
from common.engine.outcome import Drawn, Scored
from common.engine.rule import TokenRule, leaves_any
from common.kv.hashing import PrefixChain


@dataclass(slots=True)
class Sequence:
    """Writer: the batch that holds it. Lengths are derived, so that nothing can drift.

    Until its first tokens are drawn a sequence stands for all choices of its work; then it forks into one each.
    """

    id: SequenceId = field(init=False)
    num_given: int = field(init=False)
    """Tokens that were known when the work came: those that follow were drawn here, or came with the hand-over."""
    work: Work
    choices: tuple[Choice, ...]
    tokens: list[TokenId]
    arrived: float
    chain: PrefixChain
    num_computed: int = 0
    num_flying: int = 0
    """Tokens whose KV is being computed."""
    num_drawing: int = 0
    """Tokens that are being drawn, and that nobody here knows yet."""
    place: int | None = None
    """Of its row in the step that was launched last, while that is in flight."""
    num_cached: int = 0
    num_found: int = 0
    """Tokens that it will find when it begins, as far as was known when it came."""
    pages: tuple[PageRef, ...] = ()
    num_registered: int = 0
    num_preemptions: int = 0
    shaping: Shaping | None = None
    bans: Bans | None = None
    rule: TokenRule | None = None
    """Of a constraint; it has accepted every output token."""
    prompt_scores: list[TokenLogprobs] = field(default_factory=list)
    """Of the prompt's tokens from the second on, as far as they are read."""
    wants_scores: bool = False
    """Whether such are asked for and still missing: cached pages have no logits. Kept: asked every step."""
    _table: tuple[PageId, ...] = ()
    _tabled: tuple[PageRef, ...] = ()
    """The pages of which `_table` has the ids: a page is new every sixteen steps, and a row is made in each."""

    def __post_init__(self) -> None:
        self.id = SequenceId(self.work.request, self.choices[0].index)
        self.num_given = len(self.work.prompt) + len(self.work.emitted)

    @property
    def priority(self) -> Priority:
        return self.work.priority

    @property
    def page_names(self) -> abc.Sequence[PrefixHash]:
        """Of the full pages of its context."""
        return self.chain.hashes

    @property
    def num_tokens(self) -> int:
        """Those that this host knows."""
        return len(self.tokens)

    @property
    def num_launched(self) -> int:
        """Tokens with KV, or with KV on its way."""
        return self.num_computed + self.num_flying

    @property
    def num_pending(self) -> int:
        """Tokens without KV that no step computes: the unread prompt, or the token drawn last."""
        return len(self.tokens) + self.num_drawing - self.num_launched

    @property
    def num_unread(self) -> int:
        """Pending tokens that it will have to compute: the last one in any case."""
        num_pending = self.num_pending
        return max(num_pending - self.num_found, min(num_pending, 1))

    @property
    def num_output(self) -> int:
        """Output tokens of the choice so far, earlier attempts included; not those in flight."""
        return len(self.tokens) - len(self.work.prompt)

    @property
    def is_read(self) -> bool:
        """Whether its context has its KV, and none of it is in flight."""
        return self.num_computed >= self.num_given

    @property
    def has_drawn(self) -> bool:
        """Whether this attempt, on this worker or by hand-over, drew its first token."""
        return len(self.tokens) + self.num_drawing > self.num_given

    @property
    def is_decoding(self) -> bool:
        return self.has_drawn and self.num_pending == 1

    @property
    def needs_host(self) -> bool:
        """Whether what is in flight must be known before its next row can be made."""
        if not self.num_flying:
            return False
        if self.wants_scores:
            return True
        if not self.num_drawing:
            return False
        reads_output = self.bans is not None and self.bans.reads_output
        counts_output = self.shaping is not None and self.work.sampling.has_penalty
        return len(self.choices) > 1 or self.rule is not None or reads_output or counts_output

    def is_ending(self, max_context: int) -> bool:
        """Whether what is being drawn is its last token, whichever it is."""
        if not self.num_drawing:
            return False
        num_output, length = self.num_output + self.num_drawing, len(self.tokens) + self.num_drawing
        return num_output >= self.work.sampling.max_tokens or length >= max_context

    def row(self, num_tokens: int, *, page_size: int) -> StepRow:
        """The next `num_tokens` pending tokens, for whose slots there are pages. It draws where they reach the end.

        Raises InternalError where a constraint cannot say what may come next.
        """
        start, end = self.num_launched, self.num_launched + num_tokens
        length = len(self.tokens) + self.num_drawing
        assert end <= length, f"{self.id}: row to {end} of {length} tokens"
        is_ahead = end > len(self.tokens)
        assert not is_ahead or (num_tokens == 1 and self.place is not None), f"{self.id}: token {end - 1} is not known"
        work, is_scored = self.work, self.wants_scores
        return StepRow(
            sequence=self.id,
            tokens=(STAND_IN,) if is_ahead else tuple(self.tokens[start:end]),
            start=start,
            pages=self._page_table(-(-end // page_size)),
            samples=self._samples() if end == length else (),
            targets=work.prompt[start + 1 : end + 1] if is_scored else (),
            num_top=(work.sampling.prompt_logprobs or 0) if is_scored else 0,
            follows=self.place if is_ahead else None,
        )

    def _page_table(self, num_pages: int) -> tuple[PageId, ...]:
        """Ids of the first pages."""
        if self._tabled is not self.pages:
            self._table, self._tabled = tuple([ref.page for ref in self.pages]), self.pages
        return self._table if num_pages == len(self._table) else self._table[:num_pages]

    def note_launched(self, row: StepRow, place: int) -> None:
        """Its row is in flight, at this place of its step."""
        self.num_flying += len(row.tokens)
        self.num_drawing += bool(row.samples)
        self.place = place

    def note_collected(self, row: StepRow) -> None:
        """Its oldest row in flight is done."""
        self.num_flying -= len(row.tokens)
        self.num_drawing -= bool(row.samples)
        if not self.num_flying:
            self.place = None

    def _samples(self) -> tuple[Sample, ...]:
        position, sampling, bans = len(self.tokens) + self.num_drawing, self.work.sampling, self.bans
        num_output = self.num_output + self.num_drawing
        banned = bans.after(self.tokens, num_output=num_output) if bans is not None else ()
        mask = self.rule.mask() if self.rule is not None else b""
        if mask and banned and not leaves_any(mask, banned):
            banned = ()  # a token must be drawn
        shaping = self.shaping
        samples = [
            Sample(seed=choice.seed, position=position, sampling=sampling, banned=banned, shaping=shaping, mask=mask)
            for choice in self.choices
        ]
        return tuple(samples)

    def rule_after(self, token: TokenId) -> TokenRule | None:
        """The constraint of a choice that goes on with `token`; its own where several choices part here.

        Raises InternalError where the constraint refuses the token: an older attempt's, or a worker's fault.
        """
        if self.rule is None:
            return None
        rule = self.rule.fork() if len(self.choices) > 1 else self.rule
        if not rule.accept(token):
            raise InternalError(message=f"{self.id}: the constraint refuses output token {self.num_output}")
        return rule

    def drew(self, choice: Choice, token: TokenId, logprobs: TokenLogprobs | None, *, ends: EndRules) -> Drawn:
        """What the sequence's row drew for one of its choices; nothing is appended yet. Raises as `rule_after`."""
        rule, sampling, num_output = self.rule_after(token), self.work.sampling, self.num_output
        finish = finish_reason(
            token,
            num_output=num_output + 1,
            context_length=len(self.tokens) + 1,
            sampling=sampling,
            ends=ends,
            is_complete=rule is not None and rule.is_over,
        )
        is_stop = finish is FinishReason.STOP
        return Drawn(
            source=self.id,
            work=self.work,
            choice=choice,
            index=num_output,
            token=token,
            finish=finish,
            logprobs=logprobs,
            is_stop_token=is_stop and (token in ends.eos_ids or token in sampling.stop_token_ids),
            rule=rule,
        )

    def note_scores(self, row: StepRow, scores: tuple[TokenLogprobs, ...]) -> Scored:
        """What a row said of its targets."""
        assert len(self.prompt_scores) == row.start, f"{self.id}: {len(self.prompt_scores)} scores before {row.start}"
        self.prompt_scores.extend(scores)
        self.wants_scores = len(self.prompt_scores) < len(self.work.prompt) - 1
        return Scored(work=self.work, first_position=row.start + 1, logprobs=scores)
