"""Log probabilities between workers, and from them to routers."""

from common.core.ids import TokenId
from common.core.logprobs import MAX_LOGPROBS, TokenLogprobs
from common.rpc.convert.fields import require
from protos.baton.v1 import types_pb2


def logprobs_to_wire(logprobs: TokenLogprobs) -> types_pb2.TokenLogprobs:
    return types_pb2.TokenLogprobs(
        logprob=logprobs.logprob,
        rank=logprobs.rank,
        top_token_ids=logprobs.top_ids,
        top_logprobs=logprobs.top_logprobs,
    )


def logprobs_from_wire(message: types_pb2.TokenLogprobs) -> TokenLogprobs:
    """Raises InvalidRequest."""
    ids, values = message.top_token_ids, message.top_logprobs
    require(len(ids) == len(values), "logprobs.top_logprobs", f"{len(values)} values for {len(ids)} ids")
    require(len(ids) <= MAX_LOGPROBS, "logprobs.top_token_ids", f"{len(ids)} ids, at most {MAX_LOGPROBS}")
    # The negated form refuses NaN.
    require(message.logprob <= 0, "logprobs.logprob", f"{message.logprob} is no log probability")
    require(message.rank >= 1, "logprobs.rank", "ranks count from 1")
    return TokenLogprobs(
        logprob=message.logprob, rank=message.rank, top_ids=tuple(map(TokenId, ids)), top_logprobs=tuple(values)
    )
