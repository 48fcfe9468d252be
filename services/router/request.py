"""A request as the router serves it: valid, tokenized, every default resolved."""

from dataclasses import dataclass
from hashlib import blake2b

from common.core.constraint import Constraint
from common.core.ids import RequestId, TenantId, TokenId
from common.core.request import Choice, Priority, TokenSampling

SEED_BITS = 64


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


def mint_choices(seed: int, count: int) -> tuple[Choice, ...]:
    """One seed per choice. Choice 0 keeps the request's own, so that n = 1 and the first of n = 4 say the same."""
    return tuple(Choice(index=index, seed=_choice_seed(seed, index)) for index in range(count))


def _choice_seed(seed: int, index: int) -> int:
    wrapped = seed % (1 << SEED_BITS)
    if index == 0:
        return wrapped
    parts = wrapped.to_bytes(8, "little") + index.to_bytes(4, "little")
    return int.from_bytes(blake2b(parts, digest_size=8, person=b"baton choice").digest(), "little")
