"""`baton top`: a live view of a cluster."""

from typing import Annotated

import typer

from common.core.clock import SystemClock
from services.local import top as top_command
from services.local.client import router_client
from services.local.failure import run
from services.local.flags import DEFAULT_ROUTER, Router
from services.local.screen import console


def top(
    router: Router = DEFAULT_ROUTER,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="Draw so many times, then end.")] = None,
) -> None:
    """Watch workers, queues, pages, tokens per second, latencies."""

    async def watch() -> None:
        async with router_client(router) as client:
            await top_command.top(client, console, count=count, clock=SystemClock())

    run(watch())
