"""What a workload is run against, and what a client hears of one request."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from common.core.clock import Clock
from common.core.errors import InternalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Output tokens that arrived together, `at` on the client's monotonic clock."""

    at: float
    num_tokens: int


class Target(Protocol):
    """Something that continues prompts: greedy, past the end of sequence, `max_tokens` exactly."""

    @property
    def name(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_context(self) -> int: ...

    def stream(self, prompt: tuple[int, ...], max_tokens: int) -> AsyncIterator[Piece]:
        """The answer's pieces. Closing the iterator cancels the request. Raises BatonError."""
        ...


@dataclass(slots=True)
class Heard:
    """One request as its client saw it. Writer: `hear`; readable at any time, also when it was cut short."""

    sent_at: float
    prompt_tokens: int
    pieces: list[Piece] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return sum(piece.num_tokens for piece in self.pieces)

    @property
    def ttft_s(self) -> float:
        """Seconds to the first token."""
        return self.pieces[0].at - self.sent_at

    def gaps(self, start: float = 0.0, end: float = float("inf")) -> Iterator[float]:
        """Seconds between tokens, the later one within start..end: n tokens together are a gap and n - 1 zeros."""
        for before, piece in pairwise(self.pieces):
            if start <= piece.at <= end:
                yield piece.at - before.at
                yield from (0.0 for _ in range(piece.num_tokens - 1))

    def tokens_within(self, start: float, end: float) -> int:
        return sum(piece.num_tokens for piece in self.pieces if start < piece.at <= end)


async def hear(target: Target, prompt: tuple[int, ...], max_tokens: int, clock: Clock) -> Heard:
    """A whole answer. Raises InternalError when the target writes another number of tokens."""
    heard = Heard(sent_at=clock.monotonic(), prompt_tokens=len(prompt))
    await listen(target, prompt, max_tokens, heard)
    if heard.num_tokens != max_tokens:
        raise InternalError(message=f"{target.name} wrote {heard.num_tokens} tokens where {max_tokens} were asked for")
    return heard


async def listen(target: Target, prompt: tuple[int, ...], max_tokens: int, heard: Heard) -> None:
    """Into `heard`, until the answer ends or this task is cancelled."""
    pieces = target.stream(prompt, max_tokens)
    async with aclosing(pieces):  # type: ignore[type-var]  # every target's stream is an async generator
        async for piece in pieces:
            heard.pieces.append(piece)
