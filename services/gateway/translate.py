"""From HTTP's spelling to the router's. Values that existing clients send for "off" are mapped here; the gRPC surface
stays strict.
"""

import json
from collections.abc import Iterator, Sequence

from common.core.errors import FieldViolation, Unsupported
from protos.baton.v1 import generation_pb2, types_pb2
from services.gateway.constraint import chat_constraint, constraint_of
from services.gateway.echo import wants_prompt
from services.gateway.reading.tools import ToolFormat
from services.gateway.routers import Model
from services.gateway.schema.body import invalid, violation
from services.gateway.schema.chat import ChatBody, Message, Tool
from services.gateway.schema.completion import CompletionBody, Prompt
from services.gateway.schema.sampling import SamplingBody
from services.gateway.schema.text import TokenizeBody

PRIORITIES = {
    "interactive": types_pb2.PRIORITY_INTERACTIVE,
    "standard": types_pb2.PRIORITY_STANDARD,
    "batch": types_pb2.PRIORITY_BATCH,
}
ROLES = {"developer": "system"}
"""Roles under other names; the others are called alike."""

MAX_REPEATED_BYTES = 8 << 20
"""Chosen: each prompt is a request of its own, with all the other fields; four bodies' worth of them."""

COMPLETION_TOKENS = 16
"""What OpenAI's completions endpoint writes where max_tokens is absent."""


def completion_requests(body: CompletionBody) -> list[generation_pb2.GenerateRequest]:
    """One request per prompt. Raises InvalidRequest with every violation found here."""
    shared = _request(body)
    shared.sampling.max_tokens = COMPLETION_TOKENS if body.max_tokens is None else max(1, body.max_tokens)
    shared.echo = bool(body.echo) or wants_prompt(body)
    if (constraint := constraint_of(body)) is not None:
        shared.constraint.CopyFrom(constraint)
    if body.logprobs is not None:
        shared.sampling.logprobs = body.logprobs
        if body.echo and body.prompt_logprobs is None:
            shared.sampling.prompt_logprobs = body.logprobs
    if (size := shared.ByteSize() * len(body.prompt)) > MAX_REPEATED_BYTES and len(body.prompt) > 1:
        told = f"{len(body.prompt)} prompts repeat {size} bytes of the other fields, at most {MAX_REPEATED_BYTES}"
        raise invalid([violation("prompt", told)])
    return [_with_prompt(shared, prompt) for prompt in body.prompt]


def chat_request(body: ChatBody, model: Model) -> generation_pb2.GenerateRequest:
    """Raises InvalidRequest with every violation found here, Unsupported for tools where the model knows none."""
    request = _request(body)
    if body.wants_tools and model.tools is ToolFormat.NONE:
        told = "the model's chat template knows no tools, or calls them in a way that is not read here: leave them out"
        raise Unsupported(message=told)
    hides_calls = model.hides_calls or model.tools in (ToolFormat.MISTRAL, ToolFormat.LLAMA, ToolFormat.GRANITE)
    if body.skip_special_tokens is None and (model.hides_thoughts or (body.wants_tools and hides_calls)):
        request.sampling.skip_special_tokens = False  # what the answer is read by is a special token
    request.echo = wants_prompt(body) and not body.stream
    request.chat.CopyFrom(talk_of(body, body.tools if body.wants_tools else None))
    if (constraint := chat_constraint(body, model)) is not None:
        request.constraint.CopyFrom(constraint)
    if (limit := body.max_completion_tokens or body.max_tokens) is not None:
        request.sampling.max_tokens = limit
    if body.logprobs:
        request.sampling.logprobs = body.top_logprobs or 0
    return request


def talk_of(body: ChatBody | TokenizeBody, tools: Sequence[Tool] | None) -> generation_pb2.ChatMessages:
    """What the chat template is given."""
    return generation_pb2.ChatMessages(
        messages=[_message(message) for message in body.messages or ()],
        tools_json=json.dumps([tool.model_dump(exclude_none=True) for tool in tools]) if tools else "",
        enable_thinking=body.may_think,
        opens_no_answer=body.add_generation_prompt is False,
        continues_last=bool(body.continue_final_message),
    )


def _request(body: SamplingBody) -> generation_pb2.GenerateRequest:
    found = tuple(_violations(body))
    if found:
        raise invalid(found)
    return generation_pb2.GenerateRequest(
        model=body.model or "",
        sampling=sampling_params(body),
        priority=priority_of(body.priority),
        cache_salt=body.cache_salt or "",
        return_token_ids=True,  # counted for usage, and shown where asked for
    )


def _violations(body: SamplingBody) -> Iterator[FieldViolation]:
    if isinstance(body.priority, str) and body.priority not in PRIORITIES:
        yield violation("priority", f"must be one of {', '.join(PRIORITIES)}, or a number as vLLM has it")
    told = set[int]()
    for token in body.logit_bias or {}:
        if not (len(token) <= 10 and token.isascii() and token.isdigit() and int(token) < 2**32):
            yield violation("logit_bias", f"{token[:40]!r} is no token id")
            return
        if int(token) in told:
            yield violation("logit_bias", f"{token!r} is a token that has its bias already")
            return
        told.add(int(token))


def priority_of(value: int | str | None) -> types_pb2.Priority.ValueType:
    """By name, or by number: below 0 is served earlier, above 0 later."""
    if isinstance(value, str):
        return PRIORITIES[value]
    if not value:
        return types_pb2.PRIORITY_UNSPECIFIED  # the credential's usual class
    return types_pb2.PRIORITY_INTERACTIVE if value < 0 else types_pb2.PRIORITY_BATCH


def sampling_params(body: SamplingBody) -> types_pb2.SamplingParams:
    """Only what the client said. top_p 0 keeps the likeliest token alone, which is what its senders mean by it."""
    params = types_pb2.SamplingParams(
        stop=body.stop or (),
        stop_token_ids=body.stop_token_ids or (),
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items() if bias},
        allowed_token_ids=body.allowed_token_ids or (),
        bad_words=body.bad_words or (),
    )
    for name in _SAME:
        if (value := getattr(body, name)) is not None:
            setattr(params, name, value)
    if body.top_k is not None:
        params.top_k = max(body.top_k, 0)
    if body.top_p is not None:
        if body.top_p == 0:
            params.top_k = 1
        else:
            params.top_p = body.top_p
    return params


_SAME = (
    "temperature",
    "min_p",
    "seed",
    "max_tokens",
    "min_tokens",
    "ignore_eos",
    "n",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "prompt_logprobs",
    "include_stop_str_in_output",
    "skip_special_tokens",
)
"""Fields that both sides spell alike."""


def _with_prompt(shared: generation_pb2.GenerateRequest, prompt: Prompt) -> generation_pb2.GenerateRequest:
    request = generation_pb2.GenerateRequest()
    request.CopyFrom(shared)
    if isinstance(prompt, str):
        request.text = prompt
    else:
        request.token_ids.ids.extend(prompt)
    return request


def _message(message: Message) -> generation_pb2.ChatMessage:
    return generation_pb2.ChatMessage(
        role=ROLES.get(message.role, message.role),
        content=message.content or "",
        reasoning=message.reasoning_content or message.reasoning or "",
        name=message.name or "",
        tool_call_id=message.tool_call_id or "",
        tool_calls=[
            generation_pb2.ToolCall(id=call.id, name=call.function.name, arguments_json=call.function.arguments)
            for call in message.tool_calls or ()
        ],
    )
