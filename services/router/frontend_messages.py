"""What clients and the router say to each other, between wire and core. Decides nothing."""

from collections.abc import Callable, Sequence

from common.core.ids import TokenId
from common.core.logprobs import TokenLogprobs
from common.rpc.convert.constraint import constraint_from_wire
from common.rpc.convert.fields import FINISHES
from common.text.conversation import MAX_MESSAGES, ChatMessage, Conversation, ToolCall
from protos.baton.v1 import generation_pb2, types_pb2
from services.router.asked import Asked, AskedSampling
from services.router.delta import Delta
from services.router.record import Record
from services.router.request import Request

Spell = Callable[[TokenId], bytes]
"""What a token spells, in UTF-8."""

Response = generation_pb2.GenerateResponse
Wrap = Callable[[Response], Response | generation_pb2.ResumeResponse]
"""The message of the call's own kind that carries a response."""


def asked_from_wire(message: generation_pb2.GenerateRequest) -> Asked:
    """As the client wrote it. Absent optional fields become None."""
    kind = message.WhichOneof("prompt")
    return Asked(
        request_id=message.request_id,
        model=message.model,
        text=message.text if kind == "text" else None,
        chat=chat_from_wire(message.chat) if kind == "chat" else None,
        token_ids=tuple(message.token_ids.ids) if kind == "token_ids" else None,
        sampling=sampling_from_wire(message.sampling),
        priority=message.priority,
        tenant=message.tenant,
        cache_salt=message.cache_salt,
        return_token_ids=message.return_token_ids,
        echo=message.echo,
        resumable=message.resumable,
        constraint=constraint_from_wire(message.constraint),
    )


def chat_from_wire(chat: generation_pb2.ChatMessages) -> Conversation:
    """At most one message more than may be: enough to be refused, however many fit into the bytes."""
    return Conversation(
        messages=tuple(_message_from_wire(item) for item in chat.messages[: MAX_MESSAGES + 1]),
        tools_json=chat.tools_json,
        enable_thinking=chat.enable_thinking if chat.HasField("enable_thinking") else None,
        opens_answer=not chat.opens_no_answer,
        continues_last=chat.continues_last,
    )


def _message_from_wire(item: generation_pb2.ChatMessage) -> ChatMessage:
    calls = tuple(ToolCall(id=call.id, name=call.name, arguments=call.arguments_json) for call in item.tool_calls)
    return ChatMessage(
        role=item.role,
        content=item.content,
        reasoning=item.reasoning,
        name=item.name,
        tool_call_id=item.tool_call_id,
        tool_calls=calls,
    )


def sampling_from_wire(params: types_pb2.SamplingParams) -> AskedSampling:
    has = params.HasField
    return AskedSampling(
        temperature=params.temperature if has("temperature") else None,
        top_p=params.top_p if has("top_p") else None,
        top_k=params.top_k if has("top_k") else None,
        seed=params.seed if has("seed") else None,
        max_tokens=params.max_tokens if has("max_tokens") else None,
        min_tokens=params.min_tokens if has("min_tokens") else None,
        n=params.n if has("n") else None,
        stream_interval=params.stream_interval if has("stream_interval") else None,
        min_p=params.min_p if has("min_p") else None,
        repetition_penalty=params.repetition_penalty if has("repetition_penalty") else None,
        frequency_penalty=params.frequency_penalty if has("frequency_penalty") else None,
        presence_penalty=params.presence_penalty if has("presence_penalty") else None,
        logprobs=params.logprobs if has("logprobs") else None,
        prompt_logprobs=params.prompt_logprobs if has("prompt_logprobs") else None,
        stop=tuple(params.stop),
        stop_token_ids=tuple(params.stop_token_ids),
        ignore_eos=params.ignore_eos,
        include_stop_str_in_output=params.include_stop_str_in_output,
        skip_special_tokens=params.skip_special_tokens if has("skip_special_tokens") else True,
        logit_bias=dict(params.logit_bias),
        allowed_token_ids=tuple(params.allowed_token_ids),
        bad_words=tuple(params.bad_words),
        bad_token_sequences=tuple(tuple(sequence.ids) for sequence in params.bad_token_sequences),
    )


def tell_delta(response: Response, delta: Delta, *, with_ids: bool, spell: Spell) -> None:
    """Once per token of every stream: built in place, field by field, which costs half of what constructors do."""
    wire = response.deltas.add()
    if delta.choice:
        wire.choice = delta.choice
    wire.first_index = delta.first_index
    if with_ids:
        wire.token_ids.extend(delta.tokens)
    wire.text = delta.text
    wire.num_tokens = len(delta.tokens)
    wire.text_offset = delta.text_offset
    if delta.logprobs:
        told = zip(delta.tokens, delta.logprobs, delta.offsets, strict=True)
        wire.logprobs.extend(scored_to_wire(token, own, spell, offset) for token, own, offset in told)
    if delta.finish is not None:
        wire.finish_reason = FINISHES[delta.finish]
    if delta.stop_string is not None:
        wire.stop_string = delta.stop_string
    elif delta.stop_token is not None:
        wire.stop_token_id = delta.stop_token


def scored_to_wire(
    token: TokenId, logprobs: TokenLogprobs, spell: Spell, text_offset: int = 0
) -> generation_pb2.ScoredToken:
    """Ranks of the likeliest count up where they differ: equally likely tokens share one."""
    top: list[generation_pb2.TokenScore] = []
    for place, (other, logprob) in enumerate(zip(logprobs.top_ids, logprobs.top_logprobs, strict=True), start=1):
        rank = top[-1].rank if top and top[-1].logprob == logprob else place
        top.append(generation_pb2.TokenScore(token_id=other, logprob=logprob, rank=rank, spelling=spell(other)))
    chosen = generation_pb2.TokenScore(
        token_id=token, logprob=logprobs.logprob, rank=logprobs.rank, spelling=spell(token)
    )
    return generation_pb2.ScoredToken(chosen=chosen, top=top, text_offset=text_offset)


def prompt_scores_to_wire(
    prompt: Sequence[TokenId], first_position: int, scores: Sequence[TokenLogprobs], spell: Spell
) -> generation_pb2.PromptLogprobs:
    """A piece of a prompt's log probabilities."""
    tokens = prompt[first_position : first_position + len(scores)]
    return generation_pb2.PromptLogprobs(
        first_position=first_position,
        tokens=[scored_to_wire(token, own, spell) for token, own in zip(tokens, scores, strict=True)],
    )


def usage_to_wire(record: Record) -> types_pb2.Usage:
    return types_pb2.Usage(
        prompt_tokens=len(record.request.prompt),
        completion_tokens=record.num_output,
        cached_tokens=record.cached_tokens,
    )


def stations_to_wire(record: Record) -> list[types_pb2.Station]:
    """In seconds since the router received the request."""
    received = record.request.received
    return [
        types_pb2.Station(name=mark.station, at_s=mark.at - received, where=mark.where, facts=dict(mark.facts))
        for mark in record.lifetime.marks
    ]


def last_response(record: Record) -> generation_pb2.GenerateResponse:
    """What follows the last delta of a request that ended well."""
    return generation_pb2.GenerateResponse(
        request_id=record.request.id, usage=usage_to_wire(record), stations=stations_to_wire(record)
    )


def new_response(request: Request) -> Response:
    response = Response()  # and then its fields: a third of what a constructor with arguments costs
    response.request_id = request.id
    return response


def tell_prompt(response: Response, request: Request) -> None:
    """What only the first response carries."""
    response.prompt_tokens = len(request.prompt)
    if request.echo is not None:
        response.prompt.CopyFrom(generation_pb2.PromptEcho(token_ids=request.prompt, text=request.echo))


def as_it_is(response: Response) -> Response:
    return response


def resumed(response: Response) -> generation_pb2.ResumeResponse:
    return generation_pb2.ResumeResponse(response=response)
