"""`baton generate`: one prompt, and its answer as it comes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from common.core.clock import SystemClock
from common.core.request import Priority
from services.local import generate as generate_command
from services.local.client import router_client
from services.local.failure import errors, run
from services.local.flags import DEFAULT_ROUTER, MAX_TIMEOUT_S, Router, SamplingFields
from services.local.prompt import read_prompt


def generate(
    prompt: Annotated[str | None, typer.Argument(help="Without it: --file, or standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read the prompt from a file.")] = None,
    router: Router = DEFAULT_ROUTER,
    tokens: Annotated[bool, typer.Option("--tokens", help="The prompt is token ids, like 1,2,3.")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a user's message.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="At most so many tokens.")] = None,
    min_tokens: Annotated[int | None, typer.Option(metavar="N", help="At least so many tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(metavar="T", help="0 is greedy.")] = None,
    top_k: Annotated[int | None, typer.Option(metavar="K", help="Keep the K likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(metavar="P", help="Keep the likeliest up to this mass.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Same seed, same text.")] = None,
    n: Annotated[int | None, typer.Option("-n", "--n", metavar="N", help="Answers to the same prompt.")] = None,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="End before it; repeatable.")] = None,
    stop_token: Annotated[list[int] | None, typer.Option(metavar="ID", help="End at it; repeatable.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after end of sequence.")] = False,
    fields: SamplingFields = None,
    priority: Annotated[Priority, typer.Option(help="Who waits for whom.")] = Priority.INTERACTIVE,
    request_id: Annotated[str, typer.Option(metavar="ID", help="Your own id; without it, a new one.")] = "",
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, max=MAX_TIMEOUT_S, help="Deadline of the answer.")
    ] = 600.0,
) -> None:
    """Send one prompt and stream its answer."""
    sampling = generate_command.Sampling(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        n=n,
        stop=tuple(stop or ()),
        stop_token_ids=tuple(stop_token or ()),
        ignore_eos=ignore_eos,
        fields=tuple(fields or ()),
    )

    async def send() -> None:
        text = read_prompt(prompt, file)
        request = generate_command.build_request(
            text, sampling, is_tokens=tokens, is_chat=chat, request_id=request_id, priority=priority
        )
        async with router_client(router) as client:
            answer = await generate_command.run(
                client, request, timeout_s=timeout, clock=SystemClock(), as_json=as_json
            )
        if sys.stderr.isatty() and not as_json:
            errors.print(generate_command.receipt(answer), style="dim", highlight=False, soft_wrap=True)

    run(send())
