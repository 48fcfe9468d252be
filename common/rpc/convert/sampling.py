"""Sampling as a worker applies it. Floats arrive with 32 bits: every worker sees the same ones."""

import math

from common.core.ids import TokenId
from common.core.logprobs import MAX_LOGPROBS
from common.core.request import TokenSampling
from common.rpc.convert.fields import require
from protos.baton.v1 import types_pb2

FIELD = "work.sampling"


def sampling_to_wire(sampling: TokenSampling) -> types_pb2.TokenSampling:
    """What changes nothing is left out: most requests set little of it."""
    return types_pb2.TokenSampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_tokens,
        min_tokens=sampling.min_tokens,
        stop_token_ids=sampling.stop_token_ids,
        ignore_eos=sampling.ignore_eos,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty if sampling.repetition_penalty != 1.0 else None,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        bias_token_ids=[token for token, _bias in sampling.logit_bias],
        bias_values=[bias for _token, bias in sampling.logit_bias],
        allowed_token_ids=sampling.allowed_ids,
        bad_words=[types_pb2.TokenSequence(ids=word) for word in sampling.bad_words],
        logprobs=sampling.logprobs,
        prompt_logprobs=sampling.prompt_logprobs,
    )


def sampling_from_wire(message: types_pb2.TokenSampling) -> TokenSampling:
    """Raises InvalidRequest."""
    _check_numbers(message)
    _check_lists(message)
    return TokenSampling(
        temperature=message.temperature,
        top_p=message.top_p,
        top_k=message.top_k,
        max_tokens=message.max_tokens,
        min_tokens=message.min_tokens,
        stop_token_ids=tuple(map(TokenId, message.stop_token_ids)),
        ignore_eos=message.ignore_eos,
        min_p=message.min_p,
        repetition_penalty=message.repetition_penalty if message.HasField("repetition_penalty") else 1.0,
        frequency_penalty=message.frequency_penalty,
        presence_penalty=message.presence_penalty,
        logit_bias=tuple(zip(map(TokenId, message.bias_token_ids), message.bias_values, strict=True)),
        allowed_ids=tuple(map(TokenId, message.allowed_token_ids)),
        bad_words=tuple(tuple(map(TokenId, word.ids)) for word in message.bad_words),
        logprobs=message.logprobs if message.HasField("logprobs") else None,
        prompt_logprobs=message.prompt_logprobs if message.HasField("prompt_logprobs") else None,
    )


def _check_numbers(message: types_pb2.TokenSampling) -> None:
    # Each comparison is false for NaN, which is below and above nothing.
    require(0 <= message.temperature < math.inf, f"{FIELD}.temperature", "must be finite and not negative")
    require(0 < message.top_p <= 1, f"{FIELD}.top_p", "must be above 0 and at most 1")
    require(0 <= message.min_p <= 1, f"{FIELD}.min_p", "must be from 0 to 1")
    require(message.max_tokens >= 1, f"{FIELD}.max_tokens", "must be at least 1")
    require(
        message.min_tokens <= message.max_tokens,
        f"{FIELD}.min_tokens",
        f"{message.min_tokens} is above max_tokens {message.max_tokens}",
    )
    if message.HasField("repetition_penalty"):
        require(0 < message.repetition_penalty < math.inf, f"{FIELD}.repetition_penalty", "must be positive")
    for name in ("frequency_penalty", "presence_penalty"):
        require(math.isfinite(getattr(message, name)), f"{FIELD}.{name}", "must be finite")
    for name in ("logprobs", "prompt_logprobs"):
        require(getattr(message, name) <= MAX_LOGPROBS, f"{FIELD}.{name}", f"must be at most {MAX_LOGPROBS}")


def _check_lists(message: types_pb2.TokenSampling) -> None:
    ids, values = message.bias_token_ids, message.bias_values
    require(len(ids) == len(values), f"{FIELD}.bias_values", f"{len(values)} values for {len(ids)} ids")
    require(len(set(ids)) == len(ids), f"{FIELD}.bias_token_ids", "an id appears twice")
    require(all(map(math.isfinite, values)), f"{FIELD}.bias_values", "must be finite")
    require(all(word.ids for word in message.bad_words), f"{FIELD}.bad_words", "a word is empty")
