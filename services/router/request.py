"""A request as the router serves it: valid, tokenized, every default resolved."""

from dataclasses import dataclass

from common.core.constraint import Constraint
from common.core.ids import RequestId, TenantId, TokenId
from common.core.request import Choice, Priority, TokenSampling
from common.core.seeds import mint_choices as mint_choices  # noqa: PLC0414  # others know it from here


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRules:
    """What happens to a choice's text. Lives in the router alone: workers see tokens."""

    stops: tuple[str, ...] = ()
    keep_stop: bool = False
    skip_special: bool = True
    stream_interval: int = 1
    """Tokens gathered before a message is sent, the first excepted."""
    return_token_ids: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client wants. Made by validation, immutable from there on. Times are on the router's monotonic clock."""

    id: RequestId
    prompt: tuple[TokenId, ...]
    sampling: TokenSampling
    choices: tuple[Choice, ...]
    text: TextRules = TextRules()
    priority: Priority = Priority.STANDARD
    tenant: TenantId
    cache_scope: bytes
    received: float
    deadline: float
    echo: str | None = None
    """The prompt's text, where it goes back to the client before anything else."""
    is_resumable: bool = False
    """It outlives its client's connection for a while."""
    constraint: Constraint | None = None
