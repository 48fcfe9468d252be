"""`baton top`: a live view of a cluster, once a second."""

import asyncio

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from common.core.clock import Clock
from common.core.errors import DeadlineExceeded, Unavailable
from services.local.client import RouterClient
from services.local.summary import cluster_view

EVERY_S = 1.0


class Watch:
    """Looks at a cluster; a rate needs two looks. Writer: the loop of `top`."""

    def __init__(self, client: RouterClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: float | None = None
        self._looked_at = 0.0

    async def look(self) -> RenderableType:
        """The present frame. Raises Unavailable or DeadlineExceeded when the router does not answer."""
        view = await self._client.cluster()
        now, tokens = self._clock.monotonic(), view.figures.get("generated_tokens", 0.0)
        rate = None if self._tokens is None else max(0.0, tokens - self._tokens) / (now - self._looked_at)
        self._tokens, self._looked_at = tokens, now
        head = Text(f"{view.router.router_id} at {self._client.address}", style="bold")
        return Group(head, cluster_view(view, tokens_per_s=rate))


async def top(client: RouterClient, console: Console, *, count: int | None, clock: Clock) -> None:
    """Draw `count` times one below the other, or over and over until Ctrl-C.

    A router that stops answering is shown, not fatal; one that does not answer at all raises Unavailable.
    """
    watch = Watch(client, clock)
    frame = await watch.look()
    if count is None:
        await _live(watch, frame, console)
        return
    for _ in range(count):
        await asyncio.sleep(EVERY_S)
        console.print(await watch.look())


async def _live(watch: Watch, frame: RenderableType, console: Console) -> None:
    with Live(frame, console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.refresh()
            await asyncio.sleep(EVERY_S)
            try:
                live.update(await watch.look())
            except (Unavailable, DeadlineExceeded) as error:
                live.update(Text(error.message, style="red"))
