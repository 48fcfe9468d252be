"""`baton generate`: one prompt to a running cluster, its answer to stdout."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.errors import FieldViolation, InvalidRequest
from protos.baton.v1 import generation_pb2, types_pb2
from services.local.answer import Answer
from services.local.client import RouterClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The sampling flags as given; None leaves the choice to the model."""

    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    n: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


def parse_token_ids(text: str) -> list[int]:
    """Token ids separated by commas or blanks. Raises InvalidRequest."""
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        violation = FieldViolation(field="--tokens", description=f"not a list of numbers: {error}")
        raise InvalidRequest(message="--tokens takes token ids like 1,2,3", violations=(violation,)) from error


def build_request(
    prompt: str, sampling: Sampling, *, is_tokens: bool, is_chat: bool, request_id: str, priority: str
) -> generation_pb2.GenerateRequest:
    """The message for a prompt and flags."""
    request = generation_pb2.GenerateRequest(request_id=request_id, return_token_ids=True, sampling=_sampling(sampling))
    request.priority = types_pb2.Priority.Value(f"PRIORITY_{priority.upper()}")
    if is_tokens:
        request.token_ids.ids.extend(parse_token_ids(prompt))
    elif is_chat:
        request.chat.messages.append(generation_pb2.ChatMessage(role="user", content=prompt))
    else:
        request.text = prompt
    return request


async def run(
    client: RouterClient,
    request: generation_pb2.GenerateRequest,
    *,
    timeout_s: float,
    clock: Clock,
    as_json: bool,
) -> Answer:
    """Send it and print the answer: as it comes, or one JSON object at the end."""
    answer = Answer(clock)
    async for response in client.generate(request, timeout_s=timeout_s):
        text = answer.take(response)
        if text and not as_json:
            sys.stdout.write(text)
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps(answer.as_json(), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n" + "".join(_other_choices(answer)))
    return answer


def _other_choices(answer: Answer) -> Sequence[str]:
    """Choices after the first cannot be interleaved on one terminal: they follow whole."""
    return [f"\n[choice {index}]\n{choice.text}\n" for index, choice in sorted(answer.choices.items()) if index]


def _sampling(flags: Sampling) -> types_pb2.SamplingParams:
    given = {
        "max_tokens": flags.max_tokens,
        "min_tokens": flags.min_tokens,
        "temperature": flags.temperature,
        "top_k": flags.top_k,
        "top_p": flags.top_p,
        "seed": flags.seed,
        "n": flags.n,
    }
    params = types_pb2.SamplingParams(stop=flags.stop, stop_token_ids=flags.stop_token_ids)
    for name, value in given.items():
        if value is not None:
            setattr(params, name, value)
    if flags.ignore_eos:
        params.ignore_eos = True
    return params
