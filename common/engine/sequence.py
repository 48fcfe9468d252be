"""One context on one worker: its tokens, and the pages that hold their KV."""

from dataclasses import dataclass, field

from common.core.errors import InternalError
from common.core.ids import PageRef, SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import Choice, Work
from common.core.shaping import Shaping
from common.core.step import Sample, StepRow
from common.engine.bans import Bans
from common.engine.outcome import Scored
from common.engine.rule import TokenRule, leaves_any
from common.kv.hashing import PrefixChain


@dataclass(slots=True)
class Sequence:
    """Writer: the batch that holds it. Lengths are derived, so that nothing can drift.

    Until its first tokens are drawn a sequence stands for all choices of its work; then it forks into one each.
    """

    work: Work
    choices: tuple[Choice, ...]
    tokens: list[TokenId]
    arrived: float
    chain: PrefixChain
    num_computed: int = 0
    num_cached: int = 0
    pages: list[PageRef] = field(default_factory=list)
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

    @property
    def id(self) -> SequenceId:
        return SequenceId(self.work.request, self.choices[0].index)

    @property
    def num_pending(self) -> int:
        """Tokens without KV: the unread prompt, or the token drawn last."""
        return len(self.tokens) - self.num_computed

    @property
    def num_output(self) -> int:
        """Output tokens of the choice so far, earlier attempts included."""
        return len(self.tokens) - len(self.work.prompt)

    @property
    def has_drawn(self) -> bool:
        """Whether this attempt, on this worker or by hand-over, drew its first token."""
        return self.num_output > self.work.first_index

    @property
    def is_decoding(self) -> bool:
        return self.has_drawn and self.num_pending == 1

    def row(self, num_tokens: int, *, page_size: int) -> StepRow:
        """The next `num_tokens` pending tokens, for whose slots there are pages. It draws where they reach the end.

        Raises InternalError where a constraint cannot say what may come next.
        """
        start, end = self.num_computed, self.num_computed + num_tokens
        assert end <= len(self.tokens), f"{self.id}: row to {end} of {len(self.tokens)} tokens"
        work, is_scored = self.work, self.wants_scores
        return StepRow(
            sequence=self.id,
            tokens=tuple(self.tokens[start:end]),
            start=start,
            pages=tuple(ref.page for ref in self.pages[: -(-end // page_size)]),
            samples=self._samples() if end == len(self.tokens) else (),
            targets=work.prompt[start + 1 : end + 1] if is_scored else (),
            num_top=(work.sampling.prompt_logprobs or 0) if is_scored else 0,
        )

    def _samples(self) -> tuple[Sample, ...]:
        position, sampling, bans = len(self.tokens), self.work.sampling, self.bans
        banned = bans.after(self.tokens, num_output=self.num_output) if bans is not None else ()
        mask = self.rule.mask() if self.rule is not None else b""
        if mask and banned and not leaves_any(mask, banned):
            banned = ()  # a token must be drawn
        return tuple(
            Sample(
                seed=choice.seed, position=position, sampling=sampling, banned=banned, shaping=self.shaping, mask=mask
            )
            for choice in self.choices
        )

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

    def note_scores(self, row: StepRow, scores: tuple[TokenLogprobs, ...]) -> Scored:
        """What a row said of its targets."""
        assert len(self.prompt_scores) == row.start, f"{self.id}: {len(self.prompt_scores)} scores before {row.start}"
        self.prompt_scores.extend(scores)
        self.wants_scores = len(self.prompt_scores) < len(self.work.prompt) - 1
        return Scored(work=self.work, first_position=row.start + 1, logprobs=scores)
