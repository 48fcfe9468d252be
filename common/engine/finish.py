"""When a choice ends, as far as tokens can tell. Stop strings are text and live in the router."""

from collections.abc import Collection

from common.core.ids import TokenId
from common.core.request import FinishReason, TokenSampling


def finish_reason(
    token: TokenId,
    *,
    num_output: int,
    context_length: int,
    sampling: TokenSampling,
    eos_ids: Collection[TokenId],
    max_context: int,
    is_complete: bool = False,
) -> FinishReason | None:
    """Why the choice ends with `token`, its `num_output`-th output token (from 1), or None.

    A stop inside the token budget wins over the length. `context_length` counts prompt and output. `is_complete`: a
    constraint lets nothing follow, whatever min_tokens and ignore_eos say.
    """
    is_stop = token in sampling.stop_token_ids or (token in eos_ids and not sampling.ignore_eos)
    if is_stop and num_output > sampling.min_tokens:
        return FinishReason.STOP
    if is_complete:
        return FinishReason.STOP
    if num_output >= sampling.max_tokens or context_length >= max_context:
        return FinishReason.LENGTH
    return None
