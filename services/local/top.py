"""`baton top`: a live view of a cluster, once a second."""

import asyncio

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from common.core.errors import Unavailable
from services.local.client import RouterClient
from services.local.summary import cluster_view

EVERY_S = 1.0


async def top(client: RouterClient, console: Console, *, count: int | None) -> None:
    """Draw `count` times one below the other, or over and over until Ctrl-C.

    A router that stops answering is shown, not fatal; one that does not answer at all raises Unavailable.
    """
    frame = await _frame(client)
    if count is not None:
        console.print(frame)
        for _ in range(count - 1):
            await asyncio.sleep(EVERY_S)
            console.print("", await _frame(client))
        return
    with Live(frame, console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.refresh()
            await asyncio.sleep(EVERY_S)
            try:
                live.update(await _frame(client))
            except Unavailable as error:
                live.update(Text(error.message, style="red"))


async def _frame(client: RouterClient) -> RenderableType:
    view = await client.cluster()
    head = Text(f"{view.router.router_id} at {client.address}", style="bold")
    return Group(head, cluster_view(view))
