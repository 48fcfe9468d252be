"""What a client asked for, after validation, and what a worker is told to compute."""

from dataclasses import dataclass
from enum import StrEnum

from common.core.constraint import Constraint
from common.core.ids import RequestId, RouterRef, TenantId, TokenId


class Priority(StrEnum):
    """Service class: who waits for whom."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


RANK = {Priority.INTERACTIVE: 0, Priority.STANDARD: 1, Priority.BATCH: 2}
"""The lower goes first, on workers and in the line before them."""


class FinishReason(StrEnum):
    """Why a choice ended. Exactly one per choice."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSampling:
    """Sampling as a worker applies it: every field resolved, no text. temperature 0 is greedy; top_k 0 is off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 16
    min_tokens: int = 0
    stop_token_ids: tuple[TokenId, ...] = ()
    ignore_eos: bool = False
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[TokenId, float], ...] = ()
    allowed_ids: tuple[TokenId, ...] = ()
    """Empty: every id."""
    bad_words: tuple[tuple[TokenId, ...], ...] = ()
    """Sequences that the output may not contain: the last id of each is banned where the others come before it."""
    logprobs: int | None = None
    """How many of the likeliest tokens to tell with each drawn one; 0: the drawn one alone; None: nothing."""
    prompt_logprobs: int | None = None

    @property
    def is_greedy(self) -> bool:
        return self.temperature < 1e-5

    @property
    def has_penalty(self) -> bool:
        return self.repetition_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of the n answers to a prompt. Its noise is a function of (seed, position) alone."""

    index: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One placement attempt of one request: tokens only. Made by the router, read by workers.

    `emitted` are tokens that an earlier attempt already gave to the client; they extend the context but stay output.
    Non-empty only with a single choice, because choices diverge.
    """

    request: RequestId
    attempt: int
    prompt: tuple[TokenId, ...]
    emitted: tuple[TokenId, ...] = ()
    choices: tuple[Choice, ...]
    sampling: TokenSampling
    priority: Priority = Priority.STANDARD
    deadline: float
    """On the holder's own monotonic clock; travels as remaining milliseconds."""
    cache_scope: bytes
    router: RouterRef
    tenant: TenantId = TenantId("default")
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        assert self.prompt, f"{self.request}: work without a prompt"
        assert self.choices, f"{self.request}: work without a choice"
        assert not self.emitted or len(self.choices) == 1, f"{self.request}: emitted tokens with several choices"

    @property
    def context(self) -> tuple[TokenId, ...]:
        """Every token whose KV must exist before the next one is sampled."""
        return self.prompt + self.emitted

    @property
    def first_index(self) -> int:
        """Output index of the token this attempt samples first."""
        return len(self.emitted)

    @property
    def max_new_tokens(self) -> int:
        """Tokens each choice may still produce in this attempt."""
        return self.sampling.max_tokens - len(self.emitted)
