"""One step: what the engine is told to compute, and what came out. Made by a batch, carried out by an executor."""

from dataclasses import dataclass

from common.core.ids import PageId, SequenceId, TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import TokenSampling
from common.core.shaping import Shaping

STAND_IN = TokenId(0)
"""In the place of a token that only the device knows yet. Nobody may compute with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Draw one token from the logits after a row's last token.

    `position` is the index, in the whole context, of the token being drawn: with `seed` it keys the noise.
    `banned` may not be drawn: what would end the choice while min_tokens is not reached, and the ends of bad words.
    `shaping` is lent for the step; None where no option changes the logits.
    """

    seed: int
    position: int
    sampling: TokenSampling
    banned: tuple[TokenId, ...] = ()
    shaping: Shaping | None = None
    mask: bytes = b""
    """One bit per token id, the lowest first: set where a constraint lets it come. Empty: any may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A drawn token; with its log probabilities, where they were asked for."""

    token: TokenId
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """New tokens of one sequence: an extend where there are several, a decode where there is one.

    `start` is the position of the first new token; `pages` is the page table for positions 0 to start + len(tokens).
    No samples: the row is a chunk whose end is not the end of the prompt. Several: n choices of one prompt.
    `targets` are tokens of the prompt whose log probabilities are wanted: the first follows the row's first token, and
    so on. `num_top` of the likeliest are told with each.
    `follows`: the row's one token is what that row of the step launched just before draws; `tokens` has a STAND_IN.
    """

    sequence: SequenceId
    tokens: tuple[TokenId, ...]
    start: int
    pages: tuple[PageId, ...]
    samples: tuple[Sample, ...] = ()
    targets: tuple[TokenId, ...] = ()
    num_top: int = 0
    follows: int | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCopy:
    """Copy-on-write: done before the step's forward, so that the writer does not touch a shared page."""

    source: PageId
    destination: PageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One forward. Rows are independent of each other."""

    rows: tuple[StepRow, ...]
    copies: tuple[PageCopy, ...] = ()

    @property
    def num_tokens(self) -> int:
        return sum(len(row.tokens) for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """Drawn tokens, one tuple per row, in the order of the row's samples. `failed` rows drew nothing (poison).

    `logprobs` goes with `drawn`, row by row, None where nobody asked; `scores` goes with the rows' targets. Either is
    empty where no row asked.
    """

    drawn: tuple[tuple[TokenId, ...], ...]
    seconds: float
    failed: tuple[SequenceId, ...] = ()
    logprobs: tuple[tuple[TokenLogprobs | None, ...], ...] = ()
    scores: tuple[tuple[TokenLogprobs, ...], ...] = ()
