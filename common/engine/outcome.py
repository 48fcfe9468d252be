"""What one step of a batch did, for the core that planned it."""

from dataclasses import dataclass, field

from common.core.cost.work import StepWork
from common.core.ids import SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import Choice, FinishReason, Work
from common.engine.plan import BatchPlan
from common.engine.rule import TokenRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One token of one choice. `index` counts within the choice's whole output, from 0.

    `source` is the sequence whose row drew it: the choice's own, or the one that stood for all choices of the work.
    """

    source: SequenceId
    work: Work
    choice: Choice
    index: int
    token: TokenId
    finish: FinishReason | None
    logprobs: TokenLogprobs | None = None
    is_stop_token: bool = False
    """Whether the token itself is what ended the choice: its text is not part of the answer."""
    rule: TokenRule | None = None
    """The constraint's state after the token, for the sequence that goes on."""

    @property
    def sequence(self) -> SequenceId:
        return SequenceId(self.work.request, self.choice.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Log probabilities of prompt tokens from `first_position` on."""

    work: Work
    first_position: int
    logprobs: tuple[TokenLogprobs, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """What one step did. `deferred` rows found no page after all and were left for a later step.

    `num_orphans` rows belonged to sequences that left while the step was in flight.
    """

    plan: BatchPlan = field(default_factory=BatchPlan)
    drawn: tuple[Drawn, ...] = ()
    scored: tuple[Scored, ...] = ()
    extended: tuple[SequenceId, ...] = ()
    preempted: tuple[SequenceId, ...] = ()
    deferred: tuple[SequenceId, ...] = ()
    failed: tuple[SequenceId, ...] = ()
    num_orphans: int = 0
    num_tokens: int = 0
    work: StepWork = field(default_factory=StepWork)
    seconds: float = 0.0
