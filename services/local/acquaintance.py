"""A cluster is ready when its routers know its workers, not when its processes run: the first prompt may be relayed."""

import asyncio
from contextlib import suppress

from common.core.errors import DeadlineExceeded, Unavailable
from services.local.client import router_client

LOOK_EVERY_S = 0.03  # Chosen: below what a person notices. Seen from outside, a router's view has no event to wait for.


async def wait_acquainted(router: str, num_workers: int, timeout_s: float) -> None:
    """Until the router at this address sees so many ready workers. Raises Unavailable with what it sees instead.

    One answer that does not come says nothing: on a busy machine connections break while everything starts.
    """
    num_ready = 0
    try:
        async with asyncio.timeout(timeout_s), router_client(router) as client:
            while num_ready < num_workers:
                await asyncio.sleep(LOOK_EVERY_S)
                with suppress(Unavailable, DeadlineExceeded):
                    view = await client.cluster()
                    num_ready = sum(worker.state == "ready" for worker in view.workers)
    except TimeoutError:
        message = f"after {timeout_s:g} s the router at {router} sees {num_ready} of {num_workers} workers"
        raise Unavailable(message=message) from None
