"""`baton chat`: a conversation."""

from typing import Annotated

import typer

from common.core.clock import SystemClock
from services.local import chat as chat_command
from services.local.client import router_client
from services.local.failure import run
from services.local.flags import DEFAULT_ROUTER, MAX_TIMEOUT_S, Router
from services.local.screen import console


def chat(
    router: Router = DEFAULT_ROUTER,
    system: Annotated[str, typer.Option(metavar="TEXT", help="An instruction before the conversation.")] = "",
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="At most so many tokens an answer.")] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, max=MAX_TIMEOUT_S, help="Deadline of an answer.")
    ] = 600.0,
) -> None:
    """Talk with the model; Ctrl-D leaves."""

    async def talk() -> None:
        async with router_client(router) as client:
            sitting = chat_command.Chat(
                client, console, SystemClock(), ask=lambda: console.input("[bold]> [/]"), max_tokens=max_tokens
            )
            await sitting.run(system=system, timeout_s=timeout)

    run(talk())
