"""The contract's messages and ours: what proto3's zeros mean, what is refused, how an answer is spelled."""

from collections.abc import Sequence

from smg_grpc_proto.generated import vllm_engine_pb2 as pb

from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason, TokenSampling
from common.rpc.convert.fields import require
from common.rpc.convert.sampling import sampling_from_wire
from common.worker.vllm.asked import Asked, ModelCard
from common.worker.vllm.choice import ChoiceAnswer, News
from common.worker.vllm.handover import Sealer
from protos.baton.v1 import types_pb2

MAX_NAME = 200
MAX_CHOICES = 64
MAX_STOPS = 16
P = "sampling_params"

FINISHES = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CANCELLED: "abort",
    FinishReason.ERROR: "error",
}


def asked_from_wire(message: pb.GenerateRequest, card: ModelCard, sealer: Sealer, *, is_prefill: bool) -> Asked:
    """Raises InvalidRequest. What we cannot do is refused by its name, never left out in silence."""
    params = message.sampling_params
    require(0 < len(message.request_id) <= MAX_NAME, "request_id", f"1 to {MAX_NAME} characters")
    require(message.WhichOneof("input") == "tokenized", "input", "workers read token ids: send tokenized")
    prompt = message.tokenized.input_ids
    require(0 < len(prompt) < card.max_context, "input_ids", f"{len(prompt)}, the context has {card.max_context}")
    require(max(prompt) < card.vocab_size, "input_ids", f"an id above the vocabulary of {card.vocab_size}")
    _check_unserved(message)
    num_choices = params.n or 1
    require(num_choices <= (1 if is_prefill else MAX_CHOICES), f"{P}.n", f"{num_choices} is too many here")
    if is_prefill:
        require(params.max_tokens == 1, f"{P}.max_tokens", "a prefill worker draws one token: 1")
    require(len(params.stop) <= MAX_STOPS, f"{P}.stop", f"at most {MAX_STOPS}")
    sampling = sampling_from_wire(_sampling(params, room=card.max_context - len(prompt)))
    has_pages = message.HasField("kv_transfer_params_json") and not is_prefill
    handover = sealer.read(message.kv_transfer_params_json) if has_pages else None
    return Asked(
        name=message.request_id,
        prompt=tuple(map(TokenId, prompt)),
        sampling=sampling,
        num_choices=num_choices,
        seed=params.seed if params.HasField("seed") else None,
        streams=message.stream,
        stops=tuple(stop for stop in params.stop if stop),
        handover=None if _would_draw_otherwise(sampling) else handover,
    )


def _would_draw_otherwise(sampling: TokenSampling) -> bool:
    """Whether index 0 may not be what the prefill leg drew: a gateway leaves these fields out there. Then decode reads
    the prompt itself, which costs time and is right; the pages that were kept go with their lease."""
    may_end = not sampling.ignore_eos or bool(sampling.stop_token_ids)
    return bool(sampling.logit_bias) or (sampling.min_tokens > 0 and may_end)


def _check_unserved(message: pb.GenerateRequest) -> None:
    params = message.sampling_params
    constraint = params.WhichOneof("constraint")
    require(constraint is None, f"{P}.{constraint}", "constraints are not served over this contract")
    require(not params.HasField("truncate_prompt_tokens"), f"{P}.truncate_prompt_tokens", "not served")
    require(message.data_parallel_rank == 0, "data_parallel_rank", "there is one rank")
    for name in ("kv_transfer_params", "mm_inputs", "media_refs"):
        require(not message.HasField(name), name, "not served")
    require(not message.extra_mm_inputs, "extra_mm_inputs", "not served")


def _sampling(params: pb.SamplingParams, *, room: int) -> types_pb2.TokenSampling:
    """Zeros that proto3 cannot tell from absent are 'off' where 0 means nothing else: top_p, repetition_penalty."""
    for name in ("logprobs", "prompt_logprobs"):
        require(getattr(params, name) >= 0, f"{P}.{name}", "all of the vocabulary is not served")
    require(all(token >= 0 for token in params.logit_bias), f"{P}.logit_bias", "an id is negative")
    return types_pb2.TokenSampling(
        temperature=params.temperature if params.HasField("temperature") else 1.0,
        top_p=params.top_p or 1.0,
        top_k=params.top_k,
        min_p=params.min_p,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        repetition_penalty=params.repetition_penalty or 1.0,
        max_tokens=min(params.max_tokens, room) if params.HasField("max_tokens") else room,
        min_tokens=params.min_tokens,
        stop_token_ids=params.stop_token_ids,
        ignore_eos=params.ignore_eos,
        bias_token_ids=list(params.logit_bias),
        bias_values=[params.logit_bias[token] for token in params.logit_bias],
        logprobs=params.logprobs if params.HasField("logprobs") else None,
        prompt_logprobs=params.prompt_logprobs if params.HasField("prompt_logprobs") else None,
    )


def chunk(asked: Asked, answer: ChoiceAnswer, news: News, *, cached: int) -> pb.GenerateResponse:
    """New tokens of one choice."""
    told = pb.GenerateStreamChunk(
        token_ids=news.tokens,
        prompt_tokens=len(asked.prompt),
        completion_tokens=len(answer.tokens),
        cached_tokens=cached,
        index=answer.index,
        output_logprobs=_output_logprobs(news.tokens, news.logprobs),
    )
    return pb.GenerateResponse(chunk=told)


def progress(asked: Asked) -> pb.GenerateResponse:
    """Nothing new, and still at work: a gateway takes a silent prefill worker for a dead one."""
    return pb.GenerateResponse(chunk=pb.GenerateStreamChunk(prompt_tokens=len(asked.prompt)))


def complete(
    asked: Asked, answer: ChoiceAnswer, scores: Sequence[TokenLogprobs], *, cached: int, params: str | None
) -> pb.GenerateResponse:
    """The end of one choice, everything it said included."""
    told = pb.GenerateComplete(
        output_ids=answer.tokens,
        finish_reason=FINISHES[answer.finish or FinishReason.CANCELLED],
        prompt_tokens=len(asked.prompt),
        completion_tokens=len(answer.tokens),
        cached_tokens=cached,
        index=answer.index,
        output_logprobs=_output_logprobs(answer.tokens, answer.logprobs),
        input_logprobs=_input_logprobs(asked.prompt, scores),
        kv_transfer_params_json=params,
    )
    if answer.stop_string is not None:
        told.matched_stop_str = answer.stop_string
    elif answer.stop_token is not None and answer.stop_token in asked.sampling.stop_token_ids:
        told.matched_token_id = answer.stop_token
    return pb.GenerateResponse(complete=told)


def _output_logprobs(tokens: Sequence[TokenId], logprobs: Sequence[TokenLogprobs]) -> pb.OutputLogProbs | None:
    if not logprobs:
        return None
    return pb.OutputLogProbs(
        token_logprobs=[own.logprob for own in logprobs], token_ids=tokens, top_logprobs=map(_top, logprobs)
    )


def _input_logprobs(prompt: Sequence[TokenId], scores: Sequence[TokenLogprobs]) -> pb.InputLogProbs | None:
    if not scores:
        return None
    told = [pb.InputTokenLogProb(), *(pb.InputTokenLogProb(value=own.logprob) for own in scores)]
    return pb.InputLogProbs(token_logprobs=told, token_ids=prompt, top_logprobs=[pb.TopLogProbs(), *map(_top, scores)])


def _top(own: TokenLogprobs) -> pb.TopLogProbs:
    return pb.TopLogProbs(values=own.top_logprobs, token_ids=own.top_ids)
