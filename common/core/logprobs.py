"""Log probabilities as the model gave them, before any option of the request changed its logits."""

from dataclasses import dataclass

from common.core.ids import TokenId

MAX_LOGPROBS = 20
"""Likeliest tokens that may be asked for at one place. Chosen: what clients of other servers may ask for."""

MAX_PROMPT_SCORES = 131_072
"""Numbers that one prompt's log probabilities may consist of: its tokens times one more than the likeliest asked for.

Chosen: 1 MiB on the wire, so that they fit beside the last pages of a hand-over; 6,241 tokens with 20, 65,536 with 1.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """At one place of a text. `rank` is 1 for the likeliest; equally likely tokens share it.

    `top_ids` are the likeliest tokens, best first, equal ones by id; `top_logprobs` goes with them.
    """

    logprob: float
    rank: int
    top_ids: tuple[TokenId, ...] = ()
    top_logprobs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.top_ids) == len(self.top_logprobs), f"{len(self.top_ids)} ids, {len(self.top_logprobs)} values"
