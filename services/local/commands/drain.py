"""`baton drain`: one worker leaves, and loses no token."""

from typing import Annotated

import typer

from services.local import drain as drain_command
from services.local.client import router_client
from services.local.failure import run
from services.local.flags import DEFAULT_ROUTER, Router
from services.local.screen import console


def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Its name, as `baton top` shows it.")],
    grace: Annotated[float, typer.Option(min=0.0, max=3600.0, help="Seconds until what is left is cut.")] = 30.0,
    router: Router = DEFAULT_ROUTER,
) -> None:
    """Take one worker out without losing a token."""

    async def leave() -> None:
        async with router_client(router) as client:
            await drain_command.drain(client, worker, grace, console)

    run(leave())
