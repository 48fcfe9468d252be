"""What workers tell routers about a request: the values behind baton.v1.WorkEvent.

Every event names its attempt. A router drops events of an attempt that it has given up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.core.errors import Reason
from common.core.ids import RequestId, TokenId
from common.core.request import FinishReason
from common.core.worker import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensEmitted:
    """Consecutive tokens of one choice. `first_index` counts within the choice's whole output, from 0.

    `finish` ends the choice; then `tokens` may be empty only when no further token was drawn.
    """

    request: RequestId
    attempt: int
    choice: int
    first_index: int
    tokens: tuple[TokenId, ...]
    finish: FinishReason | None = None
    stop_token: TokenId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillDone:
    """The prompt was read. `cached` + `computed` = prompt and emitted tokens of the attempt."""

    request: RequestId
    attempt: int
    prompt_tokens: int
    cached_tokens: int
    computed_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFailed:
    """This worker gave the attempt up. `reservation_stands`: decode's promise survives and may be filled by another."""

    request: RequestId
    attempt: int
    role: Role
    reason: Reason
    message: str
    reservation_stands: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StationReached:
    """A named moment. `at` is on the worker's monotonic clock; it travels as an age."""

    request: RequestId
    attempt: int
    name: str
    at: float
    facts: Mapping[str, float] = field(default_factory=dict)


WorkEvent = TokensEmitted | PrefillDone | WorkFailed | StationReached
