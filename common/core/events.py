"""What workers tell routers: one value per thing that happened to one attempt of one request."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.core.errors import Reason
from common.core.ids import RequestId, TokenId, WorkerRef
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason
from common.core.ticket import Ticket
from common.core.worker import LoadReport, Role


@dataclass(slots=True, kw_only=True)
class TokensEmitted:
    """New tokens of one choice, at consecutive output indexes. `first_index` counts earlier attempts' tokens too.

    Nobody writes to it; not frozen, because there is one per token of every stream, and that would take twice as long.
    """

    request: RequestId
    attempt: int
    choice: int
    first_index: int
    tokens: tuple[TokenId, ...]
    finish: FinishReason | None = None
    stop_token: TokenId | None = None
    """Set when `finish` is STOP because of a token."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each token, where they were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptScored:
    """Log probabilities of the prompt's tokens from `first_position` on.

    A worker tells all of them before the first token that it emits for the attempt.
    """

    request: RequestId
    attempt: int
    first_position: int
    logprobs: tuple[TokenLogprobs, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillDone:
    """The prompt is read. cached + computed = prompt tokens."""

    request: RequestId
    attempt: int
    prompt_tokens: int
    cached_tokens: int
    computed_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketIssued:
    """A prompt without a destination is read: its pages are kept for whoever brings the ticket."""

    request: RequestId
    attempt: int
    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedChoice:
    """What a worker that gives a choice away keeps of it: `ticket` is the right to the pages of all tokens but the last
    of `num_tokens` output tokens, None where they must be computed again."""

    choice: int
    num_tokens: int
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """The worker writes this attempt no more. Names every choice that had not ended; their tokens came before."""

    request: RequestId
    attempt: int
    choices: tuple[HandedChoice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFailed:
    """This attempt is over on this worker. `reservation_stands`: decode still holds the promised pages."""

    request: RequestId
    attempt: int
    reason: Reason
    message: str
    role: Role
    reservation_stands: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StationReached:
    """A named moment of the request's life, `at` on the holder's own monotonic clock. Facts are numbers only."""

    request: RequestId
    attempt: int
    name: str
    at: float
    facts: Mapping[str, float] = field(default_factory=dict)


SCORES_OF_WEIGHT = 64
"""Log probabilities that take as much room as one event of the usual kind. Derived: half a kilobyte either way."""


def weight_of(event: "WorkEvent") -> int:
    """What an event counts against bounds of queues and messages: 1, and more for a long prompt's log probabilities."""
    if not isinstance(event, PromptScored):
        return 1
    return 1 + sum(2 + len(own.top_ids) for own in event.logprobs) // SCORES_OF_WEIGHT


WorkEvent = TokensEmitted | PromptScored | PrefillDone | TicketIssued | HandedOver | WorkFailed | StationReached


@dataclass(frozen=True, slots=True, kw_only=True)
class EventMessage:
    """What one step of one worker meant for one router. `sequence` counts a stream's messages from 1 without gap.

    `load` None: not told again, the last one stands.
    """

    worker: WorkerRef
    sequence: int
    events: tuple[WorkEvent, ...]
    load: LoadReport | None
