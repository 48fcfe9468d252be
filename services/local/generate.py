"""`baton generate`: one prompt to a running cluster, its answer to stdout."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from common.core.clock import Clock
from common.core.errors import FieldViolation, InvalidRequest
from common.core.request import Priority
from protos.baton.v1 import generation_pb2, types_pb2
from services.local.answer import Answer
from services.local.client import RouterClient
from services.local.printable import printable
from services.local.prompt import check_text, put_prompt
from services.local.sampling import set_fields


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
    fields: tuple[str, ...] = ()
    """FIELD=VALUE for whatever has no flag of its own."""


def build_request(
    prompt: str,
    sampling: Sampling,
    *,
    is_tokens: bool = False,
    is_chat: bool = False,
    request_id: str = "",
    priority: Priority = Priority.INTERACTIVE,
) -> generation_pb2.GenerateRequest:
    """The message for a prompt and flags. Raises InvalidRequest for what the message cannot hold."""
    check_text("--request-id", request_id)
    request = generation_pb2.GenerateRequest(request_id=request_id, return_token_ids=True, sampling=_sampling(sampling))
    request.priority = types_pb2.Priority.Value(f"PRIORITY_{priority.name}")
    put_prompt(request, prompt, is_tokens=is_tokens, is_chat=is_chat)
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
    try:
        async for response in client.generate(request, timeout_s=timeout_s):
            text = answer.take(response)
            if text and not as_json:
                sys.stdout.write(_shown(text))
                sys.stdout.flush()
    finally:
        if answer.choices and not as_json:
            sys.stdout.write("\n")
    if as_json:
        sys.stdout.write(json.dumps(answer.as_json(), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(_shown("".join(_other_choices(answer))))
    sys.stdout.flush()
    return answer


def _shown(text: str) -> str:
    """Into a pipe or a file as it is."""
    return printable(text) if sys.stdout.isatty() else text


def receipt(answer: Answer) -> str:
    """One line about a finished answer, with the id by which `waterfall` and `explain` know it."""
    usage, timings = answer.usage, answer.timings()
    parts = [
        answer.request_id,
        f"{usage.prompt_tokens} + {usage.completion_tokens} tokens, {usage.cached_tokens} cached",
    ]
    if timings:
        parts.append(f"TTFT {timings['ttft_s'] * 1000:.0f} ms, ITL {timings['itl_mean_s'] * 1000:.1f} ms")
    return "  ".join(parts)


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
    params = types_pb2.SamplingParams(ignore_eos=flags.ignore_eos or None)
    violations = []
    for name, value in given.items():
        try:
            if value is not None:
                setattr(params, name, value)
        except ValueError:  # below zero, or more bits than the message has
            violations.append(FieldViolation(field=f"--{name.replace('_', '-')}", description=f"{value} is beyond it"))
    for stop in flags.stop:
        check_text("--stop", stop)
    params.stop.extend(flags.stop)
    try:
        params.stop_token_ids.extend(flags.stop_token_ids)
    except ValueError:
        violations.append(FieldViolation(field="--stop-token", description="a token id is a number from 0 on"))
    if violations:
        raise InvalidRequest(message="a sampling flag is out of range", violations=tuple(violations))
    set_fields(params, flags.fields)
    return params
