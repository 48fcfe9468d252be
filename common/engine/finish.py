"""When a choice ends, as far as tokens can tell. Stop strings are text and live in the router."""

from dataclasses import dataclass

from common.core.ids import TokenId
from common.core.request import FinishReason, TokenSampling


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRules:
    """What ends every choice on this worker: the model's own tokens, and the context it was built for."""

    eos_ids: frozenset[TokenId]
    max_context: int


def finish_reason(
    token: TokenId,
    *,
    num_output: int,
    context_length: int,
    sampling: TokenSampling,
    ends: EndRules,
    is_complete: bool = False,
) -> FinishReason | None:
    """Why the choice ends with `token`, its `num_output`-th output token (from 1), or None.

    A stop inside the token budget wins over the length. `context_length` counts prompt and output. `is_complete`: a
    constraint lets nothing follow, whatever min_tokens and ignore_eos say.
    """
    is_stop = token in sampling.stop_token_ids or (token in ends.eos_ids and not sampling.ignore_eos)
    if is_stop and num_output > sampling.min_tokens:
        return FinishReason.STOP
    if is_complete:
        return FinishReason.STOP
    if num_output >= sampling.max_tokens or context_length >= ends.max_context:
        return FinishReason.LENGTH
    return None
