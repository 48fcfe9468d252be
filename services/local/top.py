"""`baton top`: a live view of a cluster, once a second."""

import asyncio

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from common.core.errors import BatonError
from services.local.client import RouterClient
from services.local.summary import cluster_table, figures_line

EVERY_S = 1.0


async def top(client: RouterClient, console: Console, *, count: int | None) -> None:
    """Draw until interrupted, or `count` times. A router that does not answer is shown, not fatal."""
    drawn = 0
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while count is None or drawn < count:
            live.update(await _frame(client), refresh=True)
            drawn += 1
            if drawn != count:
                await asyncio.sleep(EVERY_S)


async def _frame(client: RouterClient) -> Group:
    try:
        view = await client.cluster()
    except BatonError as error:
        return Group(Text(f"{client.address}: {error.message}", style="red"))
    head = Text(f"router {view.router.router_id} at {client.address}", style="bold")
    return Group(head, cluster_table(view), Text(figures_line(view)))
